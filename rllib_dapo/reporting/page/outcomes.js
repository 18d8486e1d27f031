// What trials are compared by, and their order.

// The places of the trials in the report, from the worst to the best by the last value of the run's
// metric.
function worstToBest() {
  return [...report.run.from_best].reverse();
}

// The first trial with an evaluation of its own, beside the run's metric, if there is one.
function trialWithFurtherEvaluation() {
  const measured = report.trials.find((trial) => trial.avg);
  const isTheMetric = measured && report.run.metric.endsWith(`/${measured.avg.name}`);
  return isTheMetric ? undefined : measured;
}

// Outcomes: the name in the report, what it is called here, and the function that reads it.
function outcomes() {
  const { metric } = report.run;
  const found = [
    { name: `last ${metric}`, read: (trial) => trial.metric.last },
    { name: `best ${metric}`, read: (trial) => trial.metric.best },
  ];
  const measured = trialWithFurtherEvaluation();
  if (measured) {
    const title = `last evaluation, ${measured.avg.name}`;
    found.push({ name: "last evaluation", title, read: (trial) => trial.evaluation });
  }
  for (const name of Object.keys(report.trials[0].summary)) {
    found.push({ name: `last ${name}`, read: (trial) => trial.summary[name] });
  }
  return found.map((outcome) => ({ title: outcome.name, ...outcome }));
}
