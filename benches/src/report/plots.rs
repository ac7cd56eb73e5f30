//! The plots.

use std::{error::Error, ops::Range};

use maud::Markup;
use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement, Rectangle, Text},
    prelude::{IntoLogRange, LineSeries},
    style::{
        Color, IntoFont, RGBColor, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::svg::{ACCENT, Canvas, GRID, INK, MUTED, OTHER, draw, series};
use crate::{
    adaptive::{PHASE, Scenario},
    combo::Combo,
    numbers::nanoseconds,
    record::{Adaptive, CURVE, Case, Clock, Load, Run},
};

/// Small enough to be read on a phone without being made smaller.
const SIZE: (u32, u32) = (480, 320);

type Drawn = Result<(), Box<dyn Error>>;

fn font(colour: RGBColor, size: u32) -> TextStyle<'static> {
    ("system-ui, sans-serif", size).into_font().color(&colour)
}

// === latency ===

/// Percentile curves of all stacks: the share of slower calls on a logarithmic axis, milliseconds on another.
pub(super) fn percentiles(run: &Run, clock: Clock, offered: &str) -> Markup {
    let stacks = &run.plan.stacks;
    let loads: Vec<_> = stacks.iter().map(|stack| run.load(stack, clock, offered)).collect();
    let curves: Vec<Vec<(f64, f64)>> =
        loads.into_iter().map(|load| curve(load?)).map(Option::unwrap_or_default).collect();
    let y = bounds(curves.iter().flatten().map(|(_, y)| *y));
    draw(&format!("latency by percentile at {offered}"), SIZE, stacks, |canvas| {
        let x = Axis { range: 0.0..4.0, labels: 5, label: &|x| percentile(*x) };
        let curves = curves.into_iter().enumerate().map(|(n, curve)| (curve, series(n)));
        lines(canvas, x, y, " ms", curves.collect())
    })
}

/// The points of a curve: how many nines, and milliseconds.
fn curve(load: &Load) -> Option<Vec<(f64, f64)>> {
    let values = &load.latency.as_ref()?.curve;
    let nines = |percent: f64| -(1.0 - percent / 100.0).log10();
    Some(CURVE.into_iter().map(nines).zip(values.iter().copied()).collect())
}

fn percentile(nines: f64) -> String {
    match nines.round() as u32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

/// What is drawn against the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    P99,
    Goodput,
}

/// A figure of all stacks against what was offered.
pub(super) fn against_load(run: &Run, clock: Clock, what: Series) -> Markup {
    let offered = run.offered(clock);
    let stacks = &run.plan.stacks;
    let value = |load: &Load| match what {
        Series::P99 => load.latency.as_ref().map(|latency| latency.p99),
        Series::Goodput => Some(load.goodput),
    };
    let drawn: Vec<Vec<(f64, f64)>> = stacks
        .iter()
        .map(|stack| {
            let at = |(place, load): (usize, &&str)| {
                Some((place as f64, value(run.load(stack, clock, load)?)?))
            };
            offered.iter().enumerate().filter_map(at).collect()
        })
        .collect();
    let y = bounds(drawn.iter().flatten().map(|(_, y)| *y));
    let last = (offered.len() - 1).max(1) as f64;
    let title = if what == Series::P99 { "p99 against load" } else { "goodput against load" };
    draw(title, SIZE, stacks, |canvas| {
        let label = |x: &f64| {
            let whole = (x.fract() == 0.0).then(|| offered.get(*x as usize)).flatten();
            whole.map_or_else(String::new, |load| (*load).to_owned())
        };
        let x = Axis { range: 0.0..last, labels: offered.len(), label: &label };
        let drawn = drawn.into_iter().enumerate().map(|(n, line)| (line, series(n)));
        lines(canvas, x, y, "", drawn.collect())
    })
}

/// An adaptive limit over time, and what the service can do.
pub(super) fn limit(run: &Run, row: &Adaptive, scenario: &Scenario) -> Markup {
    let phase = PHASE.as_secs_f64() / 60.0;
    let end = phase * scenario.capacity.len() as f64;
    let capacity: Vec<_> = (0..)
        .zip(scenario.capacity)
        .flat_map(|(n, capacity)| {
            [f64::from(n), f64::from(n + 1)].map(|n| (n * phase, f64::from(capacity)))
        })
        .collect();
    let limits: Vec<_> = row.limits.iter().map(|(at, limit)| (*at, *limit as f64)).collect();
    // All have the same axis, so that they can be compared.
    let all = run.adaptive.iter().flat_map(|row| &row.limits).map(|(_, limit)| *limit as f64);
    let y = bounds(all.chain(scenario.capacity.map(f64::from)));
    let title = format!("{} limit over time, {}", row.policy, scenario.name);
    draw(&title, (WIDTH, 220), &[], |canvas| {
        let x = Axis { range: 0.0..end, labels: 5, label: &|x| format!("{x:.0} min") };
        lines(canvas, x, y, "", vec![(capacity, OTHER), (limits, ACCENT)])
    })
}

/// The horizontal axis of a plot.
struct Axis<'a> {
    range: Range<f64>,
    /// How many labels there are at the most.
    labels: usize,
    label: &'a dyn Fn(&f64) -> String,
}

/// Lines in their colours, over a logarithmic axis with this unit.
fn lines(
    canvas: &Canvas<'_>,
    x: Axis<'_>,
    y: Range<f64>,
    unit: &str,
    lines: Vec<(Vec<(f64, f64)>, RGBColor)>,
) -> Drawn {
    let mut chart = ChartBuilder::on(canvas)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(34)
        .y_label_area_size(46)
        .build_cartesian_2d(x.range, y.log_scale())?;
    chart
        .configure_mesh()
        .x_labels(x.labels)
        .x_label_formatter(x.label)
        .y_labels(4)
        .y_label_formatter(&|y| format!("{y:.0}{unit}"))
        .label_style(font(MUTED, 12))
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(GRID.mix(0.0))
        .draw()?;
    for (points, colour) in lines {
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    Ok(())
}

/// A range around all values, which are positive, for a logarithmic axis.
fn bounds(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let values = values.filter(|value| *value > 0.0);
    let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    if least <= most { least * 0.85..most * 1.2 } else { 1.0..10.0 }
}

// === bars ===

/// As wide as a card is on a narrow screen.
const WIDTH: u32 = 340;
const ROW: u32 = 38;

/// What each layer adds, from the bare service to the full stack.
pub(super) fn waterfall(run: &Run, inner: &str) -> Markup {
    let steps: Vec<_> = Combo::steps()
        .into_iter()
        .filter_map(|combo| Some((combo, run.overhead(&combo.to_string(), inner, 1)?.ns.mid)))
        .collect();
    let most = steps.iter().map(|(_, ns)| *ns).fold(1.0, f64::max);
    let height = ROW * steps.len().max(1) as u32 + 8;
    draw(&format!("nanoseconds by layer, service {inner}"), (WIDTH, height), &[], |canvas| {
        let mut before = 0.0;
        for (row, (combo, ns)) in steps.iter().enumerate() {
            let name = match (row, combo.parts().next()) {
                (0, _) | (_, None) => combo.to_string(),
                (_, Some(outermost)) => format!("+ {outermost}"),
            };
            let figure = if row == 0 {
                nanoseconds(*ns)
            } else {
                format!(
                    "{}{} = {}",
                    if *ns < before { "-" } else { "+" },
                    nanoseconds((ns - before).abs()),
                    nanoseconds(*ns)
                )
            };
            let colour = if row == 0 { OTHER } else { ACCENT };
            bar(
                canvas,
                row,
                &name,
                &figure,
                before.min(*ns) / most..before.max(*ns) / most,
                colour,
            )?;
            before = *ns;
        }
        Ok(())
    })
}

/// Ours and the peers, by their ratio to ours, with its interval.
pub(super) fn side_by_side(cases: &[Case], title: &str) -> Markup {
    let most = cases.iter().map(|case| case.ratio.mid).fold(1.0, f64::max);
    let height = ROW * cases.len().max(1) as u32 + 8;
    draw(title, (WIDTH, height), &[], |canvas| {
        for (row, case) in cases.iter().enumerate() {
            let ratio = case.ratio;
            let figure = if row == 0 {
                nanoseconds(case.ns.mid)
            } else {
                format!("x {:.2} ({:.2} to {:.2})", ratio.mid, ratio.low, ratio.high)
            };
            let colour = if row == 0 { ACCENT } else { OTHER };
            bar(canvas, row, &case.name, &figure, 0.0..ratio.mid / most, colour)?;
            if row > 0 {
                let y = (row as i32) * ROW as i32 + 30;
                let x = |part: f64| (part.min(1.0) * f64::from(WIDTH - 1)) as i32;
                let ends = [(x(ratio.low / most), y), (x(ratio.high / most), y)];
                canvas.draw(&PathElement::new(ends, INK.stroke_width(2)))?;
                canvas.draw(&Circle::new((x(ratio.mid / most), y), 3, INK.filled()))?;
            }
        }
        Ok(())
    })
}

/// A name, a figure at the right, and below them a bar from one part of the width to another.
fn bar(
    canvas: &Canvas<'_>,
    row: usize,
    name: &str,
    figure: &str,
    part: Range<f64>,
    colour: RGBColor,
) -> Drawn {
    let top = row as i32 * ROW as i32;
    let right = WIDTH as i32;
    canvas.draw(&Text::new(name.to_owned(), (0, top + 6), font(INK, 13)))?;
    let anchored = font(MUTED, 13).pos(Pos::new(HPos::Right, VPos::Top));
    canvas.draw(&Text::new(figure.to_owned(), (right - 1, top + 6), anchored))?;
    let x = |part: f64| (part * f64::from(WIDTH)) as i32;
    let whole = [(0, top + 25), (right, top + 35)];
    canvas.draw(&Rectangle::new(whole, GRID.filled()))?;
    let drawn = [(x(part.start), top + 25), (x(part.end).max(x(part.start) + 2), top + 35)];
    canvas.draw(&Rectangle::new(drawn, colour.filled()))?;
    Ok(())
}
