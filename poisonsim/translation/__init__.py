"""TLB reach, page walks and slowdown of a VM's memory from counts of host leaves: analytic, no randomness."""

from .access import AccessPattern, HotCold, Sequential, Uniform, Zipf
from .cpus import CatalogueNumber, Cpu, cpu_names, load_cpu, parse_cpu
from .model import SlowdownBand, Translation, TranslationStates, Translator, translate
from .tlb import TlbArray
from .walks import model_numbers, walk_accesses, walk_references

__all__ = [
    "AccessPattern",
    "CatalogueNumber",
    "Cpu",
    "HotCold",
    "Sequential",
    "SlowdownBand",
    "TlbArray",
    "Translation",
    "TranslationStates",
    "Translator",
    "Uniform",
    "Zipf",
    "cpu_names",
    "load_cpu",
    "model_numbers",
    "parse_cpu",
    "translate",
    "walk_accesses",
    "walk_references",
]
