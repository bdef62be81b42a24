"""What KServe 0.20 (and Knative 1.21 behind it) makes of an InferenceService, in plain functions.

Every rule is held to the recorded answers of the real programs (test_recorded.py); what the product writes is then
judged by it. Images and resources are left out: nothing here depends on them.
"""

from tests.oracle.kserve import make
from tests.oracle.made import Made, Workload

__all__ = ["Made", "Workload", "make"]
