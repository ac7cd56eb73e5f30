//! Where adaptive limits settle.

use maud::{Markup, html};

use super::plots;
use crate::{adaptive::SCENARIOS, record::Run};

/// The limit of each policy over time, in each scenario.
pub(super) fn section(run: &Run) -> Markup {
    if run.adaptive.is_empty() {
        return html! {};
    }
    html! {
        section #adaptive {
            h2 { "Adaptive limits" }
            p {
                "The limit over time, and in grey how many calls the service works at. Vegas and Gradient2 look at how long calls "
                "take, and settle near it. AIMD looks at losses alone: it grows until calls time out."
            }
            @for scenario in &SCENARIOS {
                h3 { (scenario.name) }
                p { (scenario.about) "." }
                div.grid {
                    @for row in run.adaptive.iter().filter(|row| row.scenario == scenario.name) {
                        figure { figcaption { (row.policy) } (plots::limit(run, row, scenario)) }
                    }
                }
            }
        }
    }
}
