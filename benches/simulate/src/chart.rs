//! The chart: goodput and attempts over time, a curve for each stack, the phases shaded.

use std::{error::Error, ops::Range, time::Duration};

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    record::{BIN, Counts},
    run::Run,
    scenario::{Phase, Scenario},
    theme::{self, CURVES, FAINT, GRID, INK, LAST, PAPER, SHADE},
};

const WIDTH: u32 = 1200;
const HEADER: u32 = 74;
const LEGEND_LINE: u32 = 26;
const PANEL: u32 = 330;
const MARGIN: i32 = 28;
const FONT: &str = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif";

/// So many points of a curve at most.
const POINTS: usize = 150;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One of the two panels.
struct Panel<'a> {
    title: &'a str,
    value: fn(&Counts) -> f64,
    top: f64,
    label: fn(f64) -> String,
    named_phases: bool,
    /// Where the server can do no more, in a phase; if that is to be shown.
    limit: Option<fn(&Scenario, &Phase) -> f64>,
}

/// Draws `runs` as an SVG, which follows the reader's preference for light or dark.
///
/// # Errors
///
/// When drawing fails, for which there is no known reason.
pub fn svg(
    title: &str,
    setting: &str,
    scenario: &Scenario,
    runs: &[Run],
) -> Result<String, String> {
    let legend = Legend::new(runs);
    let mut svg = String::new();
    let height = HEADER + legend.height() + 2 * PANEL;
    let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let drawn = draw(&root, title, setting, &legend, scenario, runs);
    drop(root);
    drawn.map_err(|error| error.to_string())?;
    Ok(theme::follow_preference(&svg))
}

fn draw(
    root: &Area<'_>,
    title: &str,
    setting: &str,
    legend: &Legend,
    scenario: &Scenario,
    runs: &[Run],
) -> Result<(), Box<dyn Error>> {
    root.fill(&PAPER)?;
    let (header, rest) = root.split_vertically(HEADER);
    header.draw(&Text::new(title.to_owned(), (MARGIN, 18), bold(21)))?;
    header.draw(&Text::new(setting.to_owned(), (MARGIN, 48), font(13, FAINT)))?;
    let (keys, rest) = rest.split_vertically(legend.height());
    legend.draw(&keys)?;
    let (above, below) = rest.split_vertically(PANEL);
    let most =
        runs.iter().flat_map(|run| &run.record.bins).map(Counts::attempts).fold(1.0, f64::max);
    let goodput = Panel {
        title: "goodput: calls answered in time, of all that were made",
        value: Counts::goodput,
        top: 1.0,
        label: |y| format!("{:.0} %", y * 100.0),
        named_phases: true,
        limit: None,
    };
    let attempts = Panel {
        title: "attempts: requests that reached the server, for each call; dashed: as many as it can do",
        value: Counts::attempts,
        top: most.min(12.0),
        label: |y| format!("{y:.1}"),
        named_phases: false,
        limit: Some(|scenario, phase| {
            let offered = scenario.calls_per_second() * phase.load.get();
            scenario.capacity() * phase.capacity.get() / offered
        }),
    };
    goodput.draw(&above, scenario, runs)?;
    attempts.draw(&below, scenario, runs)?;
    root.present()?;
    Ok(())
}

// === impl Panel ===

impl Panel<'_> {
    fn draw(
        &self,
        area: &Area<'_>,
        scenario: &Scenario,
        runs: &[Run],
    ) -> Result<(), Box<dyn Error>> {
        let end = scenario.fleet.duration.get().as_secs_f64();
        let mut chart = ChartBuilder::on(area)
            .margin_left(12)
            .margin_right(MARGIN)
            .margin_top(if self.named_phases { 50 } else { 32 })
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..end, 0.0..self.top * 1.04)?;
        area.draw(&Text::new(self.title.to_owned(), (64, 6), bold(14)))?;
        self.shade(area, &mut chart, scenario)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .y_labels(6)
            .x_labels(13)
            .label_style(font(12, FAINT))
            .x_label_formatter(&|x| format!("{x:.0} s"))
            .y_label_formatter(&|y| (self.label)(*y))
            .draw()?;
        for (n, run) in runs.iter().enumerate() {
            let style = stroke(n, runs.len());
            chart.draw_series(LineSeries::new(self.points(run), style))?;
        }
        self.mark_limit(&mut chart, scenario)?;
        Ok(())
    }

    fn shade<'b>(
        &self,
        area: &Area<'b>,
        chart: &mut Chart<'_, 'b>,
        scenario: &Scenario,
    ) -> Result<(), Box<dyn Error>> {
        for (n, phase) in scenario.phases.iter().enumerate() {
            let Range { start, end } = scenario.bounds(n);
            let (from, to) = (start.as_secs_f64(), end.as_secs_f64());
            if !phase.is_calm() {
                let corners = [(from, 0.0), (to, self.top * 1.04)];
                chart.draw_series([Rectangle::new(corners, SHADE.filled())])?;
            }
            if self.named_phases {
                let middle = chart.backend_coord(&(from.midpoint(to), self.top * 1.04));
                let (x0, y0) = area.get_base_pixel();
                let style = font(12, FAINT).pos(Pos::new(HPos::Center, VPos::Bottom));
                area.draw(&Text::new(
                    phase.name.clone(),
                    (middle.0 - x0, middle.1 - y0 - 6),
                    style,
                ))?;
            }
        }
        Ok(())
    }

    fn mark_limit(
        &self,
        chart: &mut Chart<'_, '_>,
        scenario: &Scenario,
    ) -> Result<(), Box<dyn Error>> {
        let Some(limit) = self.limit else { return Ok(()) };
        let phases = scenario.phases.iter().enumerate();
        let steps: Vec<_> = phases
            .flat_map(|(n, phase)| {
                let (Range { start, end }, y) = (scenario.bounds(n), limit(scenario, phase));
                [start, end].map(|at| (at.as_secs_f64(), y.min(self.top)))
            })
            .collect();
        chart.draw_series(DashedLineSeries::new(steps, 3, 4, INK.stroke_width(1)))?;
        Ok(())
    }

    /// The curve: the bins, some of them taken together, each at its middle.
    fn points(&self, run: &Run) -> Vec<(f64, f64)> {
        let bins = &run.record.bins;
        let together = bins.len().div_ceil(POINTS).max(1);
        let chunks = bins.chunks(together).enumerate();
        let with_calls = chunks.map(|(n, chunk)| (n, chunk.len(), Counts::sum(chunk)));
        with_calls
            .filter(|(_, _, sum)| sum.calls > 0)
            .map(|(n, len, sum)| {
                let middle = seconds(n * together) + seconds(len) / 2.0;
                (middle, (self.value)(&sum).min(self.top * 1.04))
            })
            .collect()
    }
}

// === the legend ===

/// The names of the stacks, as many in a line as there is room for.
struct Legend {
    entries: Vec<(String, i32, i32)>,
    lines: u32,
    of: usize,
}

impl Legend {
    fn new(runs: &[Run]) -> Self {
        let (mut x, mut line, mut entries) = (MARGIN, 0, Vec::new());
        for run in runs {
            // Nobody measures text here; this is wide enough for every common font.
            let width = 46 + 8 * run.stack.chars().count() as i32;
            if x + width > WIDTH as i32 - MARGIN && x > MARGIN {
                (x, line) = (MARGIN, line + 1);
            }
            entries.push((run.stack.clone(), x, line));
            x += width;
        }
        Self { entries, lines: line as u32 + 1, of: runs.len() }
    }

    fn height(&self) -> u32 {
        self.lines * LEGEND_LINE + 16
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
        for (n, (name, x, line)) in self.entries.iter().enumerate() {
            let y = line * LEGEND_LINE as i32 + 12;
            area.draw(&PathElement::new([(*x, y), (x + 24, y)], stroke(n, self.of)))?;
            let style = font(14, INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(name.clone(), (x + 32, y), style))?;
        }
        Ok(())
    }
}

/// Each curve is drawn over those before it, and thinner, so that what it covers can be seen on both sides. Only that
/// of the last stack is thick again, and green: a file ends with what it recommends.
fn stroke(n: usize, of: usize) -> ShapeStyle {
    if n + 1 == of {
        return LAST.0.stroke_width(4);
    }
    CURVES[n % CURVES.len()].0.stroke_width(5_u32.saturating_sub(n as u32).max(2))
}

fn font(size: u32, color: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&color)
}

fn bold(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().style(FontStyle::Bold).color(&INK)
}

fn seconds(bins: usize) -> f64 {
    let bin: Duration = BIN;
    bins as f64 * bin.as_secs_f64()
}
