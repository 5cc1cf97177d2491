"""``python -m genreward_jax VERB ...``: finds the verb's file under cli/ and calls it."""

import importlib
import sys

from genreward_jax.errors import UserError

VERBS = {
    "train": "train an agent: flags as in configs/defaults.yaml",
    "eval": "play a run's policy and write its return, success and videos",
    "fetch-models": "get a model family's files from the hub ahead of time, and say first how large they are",
    "relabel": "give a run's episodes another goal, method or weights, as a new run directory",
    "goal": "make a task's goal video, pick its key frame and draw both: flags as for train, and --out FOLDER",
    "score": "judge rewards on fixed episodes before training with them: flags as for train, --rewards a,b, --run RUN",
    "convert-s3d": "turn RoboCLIP's published S3D weights into a folder of safetensors, once",
    "finetune": "fine-tune a family's video model on your videos: see docs/finetuning.md, or --help",
    "models": "train the embedded models from nothing, data included; goes on where it was stopped",
    "models-eval": "judge model families on episodes that no model was trained on",
    "study": "train under several rewards with several seeds, a CSV a run; goes on where it was stopped",
    "sweep": "train tasks x methods x seeds x flags on Ray, here or on a cluster; goes on where it was stopped",
    "figures": "draw the paper's figures from the runs that are there, and say what is missing: --figure 5",
    "reproduce": "train what a figure misses, then draw it: --figure 9 --preset smoke|cpu|paper",
    "report": "one page of all runs in a folder, without a network: --runs FOLDER --out report.html",
    "bench": "measure what the reward and the speed-ups cost and save; --quick, --full, --items 1 3",
    "doctor": "say what is installed, what renders, which device, and what to do about what is wrong",
}


def main() -> int:
    """Runs a verb; a user's mistake is one sentence and exit code 2."""
    verb, *argv = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help", "help"):
        print("python -m genreward_jax VERB [--flag value ...]\n")
        print("\n".join(f"  {name:<12} {about}" for name, about in VERBS.items()))
        return 0
    try:
        if verb not in VERBS:
            raise UserError(f"There is no verb '{verb}': there are {', '.join(VERBS)}.")
        return importlib.import_module(f"genreward_jax.cli.{verb.replace('-', '_')}").run(argv)
    except UserError as error:
        print(f"genreward_jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
