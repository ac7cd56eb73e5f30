//! What a panic and an error cost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Behaviour, Request, Subject,
    flight::Ending,
    stage::{Stage, Verdict, ensure, expect_answer, expect_ready, serve, settle},
};

/// A panic inside costs one call its answer. Its capacity is returned, and the other calls go on.
pub(crate) async fn panic_contained<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let limit = stage.limit();
    for behaviour in [Behaviour::PanicInCall, Behaviour::PanicInFuture] {
        let stand = stage.stand();
        // Another call runs at the same time, if there is room for two.
        let bystander = match limit {
            Ok(1) => None,
            _ => Some(stand.fly(Request::wait(1))),
        };
        settle().await;
        let panicked = stand.fly(Request::new(2, behaviour));
        let ending = panicked.end().await;
        ensure!(
            !matches!(ending, Ending::Hung | Ending::Answered(_)),
            "a call that panics {ending}"
        );
        drop(panicked);
        settle().await;
        let ending = serve(&mut stand.service.clone(), Request::ready(3)).await;
        expect_answer("the call after one that panicked", 3, &ending)?;
        if let Some(bystander) = bystander {
            stand.land(&[bystander]).await?;
        }
        if let Ok(limit) = limit {
            let flights = stand.saturate(101, limit, "after a call panicked").await?;
            stand.land(&flights).await?;
        }
    }
    same_instance_goes_on(stage).await
}

async fn same_instance_goes_on<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    let mut service = stand.service.clone();
    expect_ready(&mut service).await?;
    let call = || service.call(Request::new(1, Behaviour::PanicInCall));
    // A stack that calls from a task of its own returns a future; how it ends does not matter here.
    drop(catch_unwind(AssertUnwindSafe(call)));
    settle().await;
    let ending = serve(&mut service, Request::ready(2)).await;
    expect_answer("the call on the instance that panicked before", 2, &ending)
}

/// The inner error is returned unchanged.
pub(crate) async fn error_lossless<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    for id in 1..=2 {
        let ending = serve(&mut stand.service.clone(), Request::fail(id)).await;
        let Ending::Failed(fault) = ending else {
            ensure!(false, "the inner error was lost: the call {ending}");
            return Ok(());
        };
        let own = fault.request == Some(id) && stand.probe.faults().contains(&fault);
        ensure!(own, "request {id} failed inside, and a different error came out: {fault}");
    }
    Ok(())
}
