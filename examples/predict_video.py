"""Predict the phase of every second of an operation, and write a table, a timeline and a report.

Needs a trained classifier, such as `demo/model` of `make demo`, and a video:

    python examples/predict_video.py demo/unseen_operation.mp4 --model demo/model --output result
"""

import argparse
from pathlib import Path

from surgvista_hf import SurgicalVideoPredictor


def main() -> None:
    """Predict a video and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="demo/model", help="folder or Hub name of a classifier or an adapter")
    parser.add_argument("--output", type=Path, default=Path("result"))
    arguments = parser.parse_args()

    predictor = SurgicalVideoPredictor(arguments.model)
    prediction = predictor.predict(arguments.video, progress=True)

    # One row a second: prediction.seconds (seconds,) and prediction.probabilities (seconds, classes).
    print(f"{len(prediction.seconds)} seconds, {len(prediction.class_names)} classes")
    for segment in prediction.segments:
        print(segment)

    # A model is sure of anything. This says how much of the video looks unlike what it was trained on.
    fraction = prediction.unfamiliar_fraction
    print("unlike the training videos:", "unknown" if fraction is None else f"{fraction:.0%} of the seconds")

    for file in prediction.save(arguments.output, ["csv", "png", "html"], video=arguments.video):
        print("written:", file)


if __name__ == "__main__":
    main()
