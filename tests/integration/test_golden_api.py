"""Golden: over the public API, every position of every prompt, under every plan."""
import unittest

from cluster import GOLDEN, GPU
from golden_api import golden_folders, run_set

# Largest difference of log-probability over the reference's ten best tokens.
CPU_BOUND = 0.01
VULKAN_BOUND = 0.02
PLANS = {
    "npu": (dict(npu="cpu", gpu="none"), CPU_BOUND),
    "gpu": (dict(gpu=GPU), VULKAN_BOUND),
    "split": (dict(npu="cpu", gpu=GPU), VULKAN_BOUND),
    "layers": (dict(gpu=f"{GPU},{GPU}"), VULKAN_BOUND),
}


class GoldenApiTest(unittest.TestCase):
    def check(self, folder, plan, model=None):
        flags, bound = PLANS[plan]
        result = run_set(folder, plan, model, **flags)
        print(f"{result.set_name:<16} {plan:<7} {result.positions} positions, largest difference {result.largest_difference:.5f}, "
              f"{result.greedy_checked} greedy tokens, {result.greedy_wrong} wrong, {result.embeddings} embeddings, "
              f"largest difference {result.largest_of_embeddings:.5f} [{result.devices}]", flush=True)
        self.assertGreater(result.positions, 0)
        self.assertLessEqual(result.largest_difference, bound)
        self.assertEqual(result.greedy_wrong, 0)
        # Of two log-probabilities.
        self.assertLessEqual(result.largest_of_embeddings, 2 * bound)
        self.assertEqual(result.embeddings > 0, model is None)

    def test_gguf(self):
        models = [(folder, gguf) for folder in golden_folders() if "1b" in folder.name for gguf in folder.glob("*.gguf")]
        self.assertTrue(models)
        for folder, gguf in models:
            with self.subTest(model=gguf):
                self.check(folder, "npu", gguf)


def add_tests() -> None:
    for folder in golden_folders():
        for plan in PLANS:
            # The full sets are larger twins of the committed ones: the two plans with one worker of a kind suffice there.
            if folder.parent != GOLDEN and plan not in ("npu", "split"):
                continue
            # Two workers of one kind do what one does, with an edge between: one set shows it.
            if plan == "layers" and folder.name != "small27b":
                continue
            name = f"test_{'' if folder.parent == GOLDEN else 'full_'}{folder.name}_{plan}"
            setattr(GoldenApiTest, name, lambda self, folder=folder, plan=plan: self.check(folder, plan))


add_tests()

if __name__ == "__main__":
    unittest.main(verbosity=2)
