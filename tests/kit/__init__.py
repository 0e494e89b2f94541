"""What several test files share: small trainers, servers, files of rows. Test files do not import each other."""
