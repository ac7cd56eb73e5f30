//! Ours beside the peers.

use maud::{Markup, html};

use super::plots;
use crate::{
    plan::Section,
    record::{Group, Run},
};

pub(super) fn section(run: &Run) -> Markup {
    if run.groups.is_empty() {
        return html! {};
    }
    html! {
        section #peers {
            h2 { "Peers, side by side" }
            p {
                "Measured in the same run, in turns. A bar is the ratio to ours, which comes first: above 1 the peer is dearer. The line "
                "through a bar's end is the 95 % interval."
            }
            @for section in Section::PEERS {
                (groups(section.title(), run.groups.iter().filter(|g| g.section == section).collect()))
            }
        }
    }
}

fn groups(title: &str, groups: Vec<&Group>) -> Markup {
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
            let count = crate::summary::count(case.allocations?);
            Some(format!("{} {count}", case.name))
        })
        .collect();
    html! {
        @if !counted.is_empty() {
            p.small { "Allocations a " (group.per) ": " (counted.join(", ")) }
        }
    }
}
