//! The text that Prometheus scrapes.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    Metrics,
    family::{About, Export, Sample, Sort, Value},
};

/// The content type of the text that [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Encoder<'a>(DescriptorEncoder<'a>);

impl Metrics {
    /// Returns the metrics as text in the OpenMetrics format; the content type is [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string cannot fail");
        text
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.export(&mut Encoder(encoder))
    }
}

// === impl Encoder ===

impl Export for Encoder<'_> {
    fn write(&mut self, about: About, samples: &[Sample<'_>]) -> fmt::Result {
        let metric_type = match about.sort {
            Sort::Counter => MetricType::Counter,
            Sort::Gauge | Sort::Seconds => MetricType::Gauge,
            Sort::Histogram => MetricType::Histogram,
        };
        let is_seconds = matches!(about.sort, Sort::Seconds | Sort::Histogram);
        let unit = is_seconds.then_some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor(about.name, about.help, unit, metric_type)?;
        for sample in samples {
            let labels = [("name", sample.name)].into_iter().chain(sample.label);
            let labels: Vec<_> = labels.collect();
            let labels = labels.as_slice();
            let mut metric = metric.encode_family(&labels)?;
            match sample.value {
                Value::Number(value) if about.sort == Sort::Counter => {
                    metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                }
                Value::Number(value) => metric.encode_gauge(&value)?,
                Value::Spread(of) => {
                    metric.encode_histogram::<NoLabelSet>(of.sum, of.count, &of.buckets, None)?;
                }
            }
        }
        Ok(())
    }
}
