"""What tests share: data, models, and ways to look at runs. No test imports another."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
