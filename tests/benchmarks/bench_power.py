"""False alarms and power of ours, alibi-detect's and Evidently's tests, on the same draws of real images.

    python -m tests.benchmarks.bench_power            # a quick look: scikit-learn's digits, few draws
    python -m tests.benchmarks.bench_power --images FOLDER --references 500 2000 --nulls 400 --draws 25

The images are scikit-learn's digits or any folder of class folders. The network is trained on a part of them, which is
then left out; or it is an ONNX file that the pipeline has exported, or a checkpoint of timm's. Everything that was
embedded or tested is kept in the folder of ``--cache``; a run that was interrupted, or one with more draws, goes on
there. It knows nothing of changes to the tests: delete ``verdicts`` after one.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.model.inference import Classifier
from pipeline.progress import track
from tests.benchmarks.policy.kept import Kept
from tests.benchmarks.power.ceiling import ceiling
from tests.benchmarks.power.embeddings import Embeddings
from tests.benchmarks.power.images import digits, folder, foreign
from tests.benchmarks.power.network import exported_checkpoint, trained_champion
from tests.benchmarks.power.outcome import Outcome, Verdict
from tests.benchmarks.power.peers import OWN, PEERS, judge
from tests.benchmarks.power.shifts import SHIFTS, Shift
from tests.benchmarks.power.trials import BURSTS, KINDS, NULL, PLAIN, Draw, variants

CACHE = Path(".tidemark/benchmarks/power")
SPREAD = 7  # between the draws of one shift that peers are asked for


def main() -> None:
    """Test and print."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    images = digits() if options.images == "digits" else folder(Path(options.images))
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.network:
        network = Classifier(options.network, 1)
    elif options.checkpoint:
        network = exported_checkpoint(options.checkpoint, options.architecture, options.size, options.cache)
    else:
        network, images = trained_champion(images, options.train, options.cache)
    embeddings = Embeddings(images, network, options.cache)
    strangers = Embeddings(foreign(images.load(0).shape[0]), network, options.cache)
    for change, strength, frame in variants(SHIFTS, bursts=BURSTS in options.draws_of):
        embeddings.probabilities(change, strength, frame)
    (options.cache / "verdicts").mkdir(exist_ok=True)
    found = {}
    for reference in options.references:
        kept = Kept(options.cache / "verdicts" / f"{embeddings.name}-{reference}.jsonl")
        tasks = list(_tasks(options))
        with track(f"draws with {reference} in the reference", len(tasks)) as advance:
            drawn: Draw | None = None
            for kind, number, shift, tests in tasks:
                if drawn is None or (drawn.kind, drawn.number) != (kind, number):
                    drawn = Draw(embeddings, strangers, kind, reference, number)
                for size in options.sizes:
                    missing = [test for test in tests if (kind, shift.name, size, test, number) not in kept]
                    if not missing:
                        continue
                    samples = drawn.samples(shift, size)
                    for test in missing:
                        kept.add((kind, shift.name, size, test, number), judge(test, samples))
                advance(1)
        found[reference] = _outcome(kept, tasks, options.sizes)
        title = f"{images.name}, {reference:,} in the reference"
        _print(title, found[reference])
        if options.draws and not options.only_peers:
            print(f"\n{title}: power where the direction of a shift is known\n")
            print(_beside_ceiling(embeddings, reference, found[reference]))
    if options.picture:
        from tests.benchmarks.power.picture import draw

        draw(images.name, found, options.picture)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="digits", help="`digits`, or a folder of class folders")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--train", type=int, default=700, help="images to train a network on, which are then left out")
    network.add_argument("--network", type=Path, help="an ONNX file that the pipeline exported")
    network.add_argument("--checkpoint", type=Path, help="a state dict of a timm model as safetensors")
    parser.add_argument("--architecture", default="mobilenetv2_100", help="of the checkpoint")
    parser.add_argument("--size", type=int, default=96, help="pixels a side that the checkpoint's network is shown")
    parser.add_argument("--references", type=int, nargs="+", default=[500], help="images in the reference")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 200, 500], help="images of a batch")
    parser.add_argument("--nulls", type=int, default=40, help="draws without a shift, for ours")
    parser.add_argument("--draws", type=int, default=5, help="draws of each shift, for ours")
    parser.add_argument("--peer-nulls", type=int, default=20, help="draws without a shift, for the peers")
    parser.add_argument("--peer-draws", type=int, default=5, help="draws of each shift, for the peers")
    parser.add_argument("--draws-of", nargs="+", choices=KINDS, default=[PLAIN], help="how samples without are drawn")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to test as well")
    parser.add_argument("--only-peers", action="store_true", help="leave our own tests for another run")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps embeddings and verdicts")
    parser.add_argument("--picture", type=Path, help="where to draw what comes of it")
    return parser.parse_args()


def _tasks(options: argparse.Namespace) -> Iterator[tuple[str, int, Shift, tuple[str, ...]]]:
    """Kind of draw, its number, shift and tests: what belongs to one draw together, and peers where they are asked."""
    for number in range(max(options.nulls, options.draws, options.peer_nulls, options.peer_draws)):
        for kind in options.draws_of:
            own = OWN if number < options.nulls and not options.only_peers else ()
            peers = tuple(options.peers) if number < options.peer_nulls and kind == PLAIN else ()
            if own or peers:
                yield kind, number, NULL, (*own, *peers)
        for place, shift in enumerate(SHIFTS):
            own = OWN if number < options.draws and not options.only_peers else ()
            # Few draws of the slow ones: each shift has others, or one odd draw would tell on all shifts.
            asked = {(place + SPREAD * turn) % max(options.draws, 1) for turn in range(options.peer_draws)}
            peers = tuple(options.peers) if number in asked else ()
            if own or peers:
                yield PLAIN, number, shift, (*own, *peers)


def _outcome(kept: Kept, tasks: list[tuple[str, int, Shift, tuple[str, ...]]], sizes: list[int]) -> Outcome:
    verdicts: dict[tuple[str, str, int, str], dict[int, Verdict]] = {}
    for kind, number, shift, tests in tasks:
        for size in sizes:
            for test in tests:
                drift, cause = kept[kind, shift.name, size, test, number]
                verdicts.setdefault((kind, shift.name, size, test), {})[number] = bool(drift), str(cause)
    return Outcome(verdicts, sizes)


def _print(title: str, found: Outcome) -> None:
    for kind in KINDS:
        if (kind, NULL.name, found.sizes[0], OWN[0]) in found.verdicts:
            print(f"\n{title}: false alarms in percent, samples drawn {kind}\n\n{found.false_alarms(kind)}")
    if (PLAIN, SHIFTS[0].name, found.sizes[0], OWN[0]) in found.verdicts:
        print(f"\n{title}: power\n\n{found.powers()}\n\n{found.apart()}\n\n{found.causes()}")
        for size in found.sizes:
            print(f"\n{found.by_shift(size)}")


def _beside_ceiling(embeddings: Embeddings, reference: int, found: Outcome) -> str:
    directed = [shift for shift in SHIFTS if shift.change != "clean"]
    lines = [f"| images | {OWN[0]} | the true direction |", "| ---: | ---: | ---: |"]
    for size in found.sizes:
        most = [ceiling(embeddings, shift, reference, size) for shift in directed]
        lines.append(f"| {size:,} | {found.power(size, OWN[0], directed):.2f} | {np.mean(most):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
