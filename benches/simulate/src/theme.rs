//! The colours, each for light and for dark.

use plotters::style::RGBColor;

/// A colour on light paper, and what takes its place on dark paper.
pub(crate) type Pair = (RGBColor, RGBColor);

pub(crate) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(crate) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub(crate) const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
pub(crate) const GRID: RGBColor = RGBColor(0xe1, 0xe5, 0xea);
pub(crate) const SHADE: RGBColor = RGBColor(0xfb, 0xe9, 0xdd);

/// The curve of the last stack: green.
pub(crate) const LAST: Pair = (RGBColor(0x1a, 0x7f, 0x37), RGBColor(0x46, 0xd1, 0x60));

/// The other curves, in the order of the stacks: grey, ochre, red, violet, blue, turquoise, pink, brown.
pub(crate) const CURVES: &[Pair] = &[
    (RGBColor(0x7a, 0x82, 0x8e), RGBColor(0x9a, 0xa3, 0xae)),
    (RGBColor(0xbf, 0x87, 0x00), RGBColor(0xe3, 0xb3, 0x41)),
    (RGBColor(0xcf, 0x22, 0x2e), RGBColor(0xff, 0x6b, 0x64)),
    (RGBColor(0x82, 0x50, 0xdf), RGBColor(0xb9, 0x92, 0xff)),
    (RGBColor(0x09, 0x69, 0xda), RGBColor(0x58, 0xa6, 0xff)),
    (RGBColor(0x0c, 0x9a, 0xa8), RGBColor(0x3f, 0xd0, 0xdc)),
    (RGBColor(0xbf, 0x39, 0x89), RGBColor(0xf7, 0x78, 0xba)),
    (RGBColor(0x95, 0x38, 0x00), RGBColor(0xdb, 0x8a, 0x4c)),
];

const REST: &[Pair] = &[
    LAST,
    (PAPER, RGBColor(0x0d, 0x11, 0x17)),
    (INK, RGBColor(0xe6, 0xed, 0xf3)),
    (FAINT, RGBColor(0x9d, 0xa7, 0xb3)),
    (GRID, RGBColor(0x2a, 0x31, 0x3a)),
    (SHADE, RGBColor(0x33, 0x22, 0x1a)),
];

/// Adds to an SVG what gives it the dark colours where the reader prefers them.
pub(crate) fn follow_preference(svg: &str) -> String {
    let rules = REST.iter().chain(CURVES).flat_map(|&(light, dark)| {
        let (light, dark) = (hex(light), hex(dark));
        ["fill", "stroke"].map(|what| format!("[{what}=\"{light}\"]{{{what}:{dark}}}\n"))
    });
    let rules: String = rules.collect();
    let style = format!("<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n");
    let (head, body) = svg.split_once(">\n").unwrap_or((svg, ""));
    format!("{head}>\n{style}{body}")
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
