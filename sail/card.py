"""What the model card of a trained policy says of its method."""

PAPER = {
    "title": "SAIL: Self-Improving Efficient Online Alignment of Large Language Models",
    "id": "2406.15567",
    "citation": """\
@article{ding2024sail,
    title   = {{SAIL: Self-Improving Efficient Online Alignment of Large Language Models}},
    author  = {Mucong Ding and Souradip Chakraborty and Vibhu Agrawal and Zora Che
               and Alec Koppel and Mengdi Wang and Amrit Bedi and Furong Huang},
    year    = 2024,
    journal = {arXiv preprint arXiv:2406.15567},
}""",
}
