"""The race: many candidates, one budget, one choice with its certainty and its price.

`candidates` says who runs, `prices` what each costs before it runs, `rungs` how the time is cut,
`ledger` who has which job, `trial` makes one, `worker` makes them one after the other, `race` puts
all of it together, `answer` reads the outcome.
"""
