"""Images a second of full-size Kandinsky 2.2 on an accelerator, against diffusers' own pipeline.

Weights are random: they cost no download, and every side computes with the same ones.
"""
