"""What mypy must refuse in a user's script: every line below the last empty one, as test_typing.py expects."""

import numpy as np
from pushforward import MLP, Adam, Affine, Coupling, Flow, Interval, Normal, neural_spline

x = np.zeros((10, 2))
flow = Flow(2)

Flow("2")
Flow(2, layers=[Affine()])
Flow(2, base=Interval(0, 1))
Flow(2, support=[Normal()])
Flow(2, hidden=64)
Coupling(MLP())
neural_spline(2, depth="5")
flow.fit(x, None)
flow.fit(x, schedule="linear")
flow.fit(x, optimizer=Adam)
flow.fit(x, callback=lambda flow: None)
flow.log_prob(x).fit()
flow.sample(n="10")
flow.dim = 3
print(flow.history.best_epoch)
loss, gradient, more = flow.loss_and_grad(x)
text: str = flow.forward(x)[1]
flow.logprob(x)
