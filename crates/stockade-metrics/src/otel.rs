//! The same metrics as OpenTelemetry instruments.

use std::fmt;

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};

use crate::{
    Metrics,
    family::{About, Export, Sample, Sort, Value},
};

/// An instrument that is made of a metric.
#[derive(Clone, Copy, Debug)]
struct Instrument {
    about: About,
    part: Part,
}

/// A histogram cannot be observed, so its parts are counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Sum,
    Buckets,
}

/// Passes the values of one instrument on.
struct Observer<'a> {
    instrument: Instrument,
    to: &'a dyn AsyncInstrument<f64>,
}

impl Metrics {
    /// Makes an instrument of `meter` for each metric, which is read from the same handles when OpenTelemetry collects.
    ///
    /// They are observed, so calls cost what they cost without. Handles that are added later are read as well. The
    /// instruments keep the list for as long as the meter's provider lives.
    ///
    /// A name is that of the Prometheus metric with dots, such as `stockade.limit.in_flight`, and what is measured in
    /// seconds has the unit `s`. The handle's name is the attribute `stockade.name`. As the semantic conventions have
    /// it, what failed has an `error.type`: a reason, or a class or a status other than success. A histogram cannot be
    /// observed, so `stockade.calls.duration` is two counters: `.sum`, and `.bucket` with the bound as attribute `le`.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_metrics::{MeasureLayer, Metrics};
    ///
    /// let metrics = Metrics::new();
    /// let (layer, handle) = MeasureLayer::new().with_handle();
    /// metrics.measure("search", handle).unwrap();
    /// metrics.observe(&opentelemetry::global::meter("shop"));
    /// # drop(layer);
    /// ```
    pub fn observe(&self, meter: &Meter) {
        for about in self.about() {
            let parts: &[Part] = match about.sort {
                Sort::Histogram => &[Part::Sum, Part::Buckets],
                Sort::Counter | Sort::Gauge | Sort::Seconds => &[Part::Whole],
            };
            parts.iter().for_each(|part| Instrument { about, part: *part }.make(meter, self));
        }
    }
}

// === impl Instrument ===

impl Instrument {
    fn make(self, meter: &Meter, metrics: &Metrics) {
        let metrics = metrics.clone();
        let read = move |to: &dyn AsyncInstrument<f64>| {
            let observed = metrics.export(&mut Observer { instrument: self, to });
            observed.expect("an observer takes everything");
        };
        let (name, help) = (self.name(), self.about.help);
        // The provider keeps what is made here.
        if self.about.sort == Sort::Counter || self.part != Part::Whole {
            let counter = meter.f64_observable_counter(name).with_description(help);
            counter.with_unit(self.unit()).with_callback(read).build();
        } else {
            let gauge = meter.f64_observable_gauge(name).with_description(help);
            gauge.with_unit(self.unit()).with_callback(read).build();
        }
    }

    fn name(self) -> String {
        // After the project and the kind; what follows is one word.
        let name = self.about.name.replacen('_', ".", 2);
        match self.part {
            Part::Whole => name,
            Part::Sum => name + ".sum",
            Part::Buckets => name + ".bucket",
        }
    }

    fn unit(self) -> &'static str {
        match (self.about.sort, self.part) {
            (Sort::Seconds, _) | (_, Part::Sum) => "s",
            _ => "1",
        }
    }
}

// === impl Observer ===

impl Export for Observer<'_> {
    fn wants(&self, about: About) -> bool {
        about.name == self.instrument.about.name
    }

    fn write(&mut self, _: About, samples: &[Sample<'_>]) -> fmt::Result {
        for sample in samples {
            let mut attributes = attributes(sample);
            match (sample.value, self.instrument.part) {
                (Value::Number(value), _) => self.to.observe(value, &attributes),
                (Value::Spread(of), Part::Buckets) => {
                    let mut up_to = 0;
                    for (bound, count) in &of.buckets {
                        up_to += count;
                        let is_last = bound.is_infinite();
                        let bound = if is_last { "+Inf".to_owned() } else { bound.to_string() };
                        attributes.push(KeyValue::new("le", bound));
                        self.to.observe(up_to as f64, &attributes);
                        attributes.pop();
                    }
                }
                (Value::Spread(of), _) => self.to.observe(of.sum, &attributes),
            }
        }
        Ok(())
    }
}

fn attributes(sample: &Sample<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("stockade.name", sample.name.to_owned())];
    match sample.label {
        Some(("reason", reason)) => attributes.push(KeyValue::new("error.type", reason)),
        Some((label @ ("class" | "status"), value)) => {
            attributes.push(KeyValue::new(format!("stockade.{label}"), value));
            if value != "success" {
                attributes.push(KeyValue::new("error.type", value));
            }
        }
        Some(("quantile", quantile)) => attributes.push(KeyValue::new("quantile", quantile)),
        Some((label, value)) => attributes.push(KeyValue::new(format!("stockade.{label}"), value)),
        None => {}
    }
    attributes
}
