"""What the network is told besides the noisy image: one file per way of telling it.

Class ids run over the defect classes in the order of the checkpoint; then comes the clean surface,
then 'no class', which guidance leads away from.
"""
