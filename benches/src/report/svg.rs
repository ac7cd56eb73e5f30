//! SVG by `plotters`, made to follow the theme of the page.
//!
//! `plotters` knows fixed colours alone. So things are drawn in a few that stand for something, and those are
//! replaced by what stands for it on the page: the colour of text, a variable of the style sheet, a series of its own.

use maud::{Markup, PreEscaped};
use plotters::{
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    prelude::SVGBackend,
    style::RGBColor,
};

/// Text.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Text and lines that are less important.
pub(super) const MUTED: RGBColor = RGBColor(2, 2, 2);
/// The grid.
pub(super) const GRID: RGBColor = RGBColor(3, 3, 3);
/// Ours.
pub(super) const ACCENT: RGBColor = RGBColor(4, 4, 4);
/// Others'.
pub(super) const OTHER: RGBColor = RGBColor(5, 5, 5);

const THEMED: [(&str, &str); 5] = [
    ("\"#010101\"", "\"currentColor\""),
    ("\"#020202\"", "\"var(--muted)\""),
    ("\"#030303\"", "\"var(--grid)\""),
    ("\"#040404\"", "\"var(--accent)\""),
    ("\"#050505\"", "\"var(--other)\""),
];

/// A place to draw on.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The colour that stands for the series of this number.
pub(super) fn series(number: usize) -> RGBColor {
    RGBColor(9, (number / 256) as u8, (number % 256) as u8)
}

/// Draws; the series are of these names, in the order of their numbers.
pub(super) fn draw(
    title: &str,
    size: (u32, u32),
    names: &[String],
    paint: impl FnOnce(&Canvas<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Markup {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
        paint(&canvas).expect("drawing into a string cannot fail");
        canvas.present().expect("drawing into a string cannot fail");
    }
    for (colour, themed) in THEMED {
        text = text.replace(colour, themed);
    }
    for (number, name) in names.iter().enumerate() {
        let RGBColor(r, g, b) = series(number);
        text = text.replace(
            &format!("stroke=\"#{r:02X}{g:02X}{b:02X}\""),
            &format!("class=\"series\" data-stack=\"{name}\""),
        );
    }
    let (width, height) = size;
    let fixed = format!("width=\"{width}\" height=\"{height}\" ");
    let named = format!("role=\"img\" aria-label=\"{title}\" ");
    PreEscaped(text.replacen(&fixed, &named, 1))
}
