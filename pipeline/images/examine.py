"""All that ingest wants to know of an image's bytes, without its pixels in RGB ever being in memory as a whole."""

from __future__ import annotations

from pipeline.images.decode import Limits, load, rejections
from pipeline.images.measure import Gauge
from pipeline.images.phash import phash
from pipeline.images.rgb import strips
from pipeline.records import Examined


def examine(data: bytes, limits: Limits = Limits()) -> Examined:
    """Decode, measure and hash an image file; width and height are those of the upright picture.

    Equals ``measure(decode(data, limits).pixels)``, in less memory.

    Raises:
        ImageRejected: As ``decode`` does.
    """
    with rejections():
        stored = load(data, limits)
        gauge = Gauge(*stored.image.size)
        for top, strip in strips(stored.image):
            gauge.add(top, strip)
        # The measures are the same whichever way up the picture is; its hash is not.
        upright = stored.orientation.turn(gauge.luma)
        return Examined(
            width=upright.width,
            height=upright.height,
            format=stored.format,
            measures=gauge.measures(),
            phash=phash(upright),
        )
