"""The "new" update rule of arXiv 2405.20320: z' = alpha(t') x_hat + sigma(t') z_1, with the noise z_1 at the start.

n steps take n calls, or 2 n - 1 with Heun's average of two slopes, the last step alone being Euler's.
"""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.paths import Prediction


def sample(field, latents, nfe, heun=False, schedule="auto"):
    t = field.times(steps_for(nfe, 2 if heun else 1, "zero"), schedule)
    z_1, path = field.noise_of(latents), field.path
    z = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        prediction = field(z, now)
        if heun and after > 0:
            ahead = field(path.interpolate(prediction.x0, z_1, after), after).velocity
            prediction = Prediction(path, z, now, velocity=(prediction.velocity + ahead) / 2)
        z = path.interpolate(prediction.x0, z_1, after)
    return z
