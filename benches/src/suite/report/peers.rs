//! Ours beside the peers.

use maud::{Markup, html};

use super::plots;
use crate::suite::record::{Group, Run};

pub(super) fn section(run: &Run) -> Markup {
    if run.peers.is_empty() && run.pool.is_empty() {
        return html! {};
    }
    html! {
        section #peers {
            h2 { "Peers, side by side" }
            p {
                "Measured in the same run, in turns. A bar is the ratio to ours, which comes first: above 1 the peer is dearer. The line "
                "through a bar's end is the 95 % interval."
            }
            (groups("Layers", &run.peers))
            (groups("Pool", &run.pool))
        }
    }
}

fn groups(title: &str, groups: &[Group]) -> Markup {
    html! {
        @if !groups.is_empty() {
            h3 { (title) }
            div.grid {
                @for group in groups {
                    figure.peers {
                        figcaption { strong { (group.name) } br; (group.about) }
                        (plots::side_by_side(&group.cases, &group.name))
                        (allocations(group))
                    }
                }
            }
        }
    }
}

fn allocations(group: &Group) -> Markup {
    let counted: Vec<_> = group
        .cases
        .iter()
        .filter_map(|case| {
            let count = crate::suite::summary::count(case.allocations?);
            Some(format!("{} {count}", case.name))
        })
        .collect();
    html! {
        @if !counted.is_empty() {
            p.small { "Allocations a " (group.per) ": " (counted.join(", ")) }
        }
    }
}
