"""One file per detector library: the only imports of each."""

from downstream.detectors.offline import go_offline

go_offline()
