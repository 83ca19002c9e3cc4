"""Write copies of a folder of recordings without people, sound, metadata and names.

Needs a detector of out-of-body frames: a classifier with a class `outside`, `out_of_body` or `non_surgical`. The recipe
`out_of_body` trains one on rendered operating rooms, which proves nothing about real ones: look at every copy.

    surgvista prepare synthetic_views --set videos=40 --set seconds=60 --output frame_sets/synthetic_views
    surgvista finetune out_of_body
    python examples/deidentify_folder.py videos --detector runs/out_of_body/model --output shared --mapping names.json
"""

import argparse
from pathlib import Path

from surgvista_hf.inference.batch import deidentify_folder
from surgvista_hf.inference.deidentification import Cover, Pseudonyms
from surgvista_hf.inference.models.out_of_body import OutOfBodyDetector


def main() -> None:
    """De-identify the folder and say what was hidden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--detector", required=True, help="folder or Hub name")
    parser.add_argument("--output", type=Path, default=Path("shared"))
    parser.add_argument("--mapping", type=Path, default=Path("names.json"), help="real names; never share this file")
    parser.add_argument("--threshold", type=float, default=0.2, help="below 0.5 hides more than it must")
    parser.add_argument("--cover", help="LEFT,TOP,WIDTH,HEIGHT in pixels: painted black, e.g. over a name")
    arguments = parser.parse_args()

    # Without frames_per_second the detector looks at every frame; what nobody looked at is hidden.
    detector = OutOfBodyDetector.load(arguments.detector, threshold=arguments.threshold, margin=1.0)
    covers = [Cover(*map(int, arguments.cover.split(",")))] if arguments.cover else []
    names = Pseudonyms(arguments.mapping, arguments.output)  # refuses a mapping inside the shared folder
    report = deidentify_folder(arguments.videos, arguments.output, detector, names, covers=covers, progress=True)

    print(f"{len(report.done)} copies in {arguments.output}; the real names are in {arguments.mapping}")
    print("Now look at every copy: no detector is perfect, and what is painted into the frames stays.")


if __name__ == "__main__":
    main()
