"""The numbers a mixture has when nobody says otherwise, with their sources; imports nothing."""

__all__ = ["FINEWEB2", "OTHERS", "REPEAT_CAP", "TOP"]

OTHERS = "*"  # stands for all domains that are not named
REPEAT_CAP = 4.0  # Muennighoff et al. 2023, "Scaling Data-Constrained Language Models"
TOP = 7.0  # mean copies of a quality curve's best bucket; OLMo 3, 2025
FINEWEB2 = {1: 1.0, 2: 2.0, 3: 3.0, 5: 5.0, 100: 8.0, 1000: 1.0}  # huggingface/fineweb-2, README
