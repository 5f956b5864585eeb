use proptest::prelude::*;
use time::Duration;

use super::*;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const MOST: u32 = 3;

fn single(due: Option<OffsetDateTime>) -> Machine {
    Machine::new(vec![Step::new(vec![], due)])
}

/// fetch → (resize, index) → notify
fn diamond() -> Machine {
    let needs = [vec![], vec![0], vec![0], vec![1, 2]];
    Machine::new(needs.into_iter().map(|needs| Step::new(needs, None)).collect())
}

fn start(machine: &mut Machine, at: usize) -> u32 {
    let run = machine.tasks[at].run;
    match machine.begin(at, run, MOST) {
        Begun::Started { start, .. } => start,
        other => panic!("{other:?}"),
    }
}

fn finish(machine: &mut Machine, at: usize, end: End) {
    let begun = start(machine, at);
    assert!(machine.end(at, begun, end));
}

fn wanted(machine: &Machine) -> Vec<usize> {
    (0..machine.tasks.len()).filter(|at| machine.tasks[*at].dispatch == Dispatch::Wanted).collect()
}

#[test]
fn a_task_is_wanted_once_all_that_it_comes_after_is_completed() {
    let mut job = diamond();
    assert_eq!((job.state(), wanted(&job)), (State::Pending, vec![0]));
    finish(&mut job, 0, End::Done);
    assert_eq!((job.state(), wanted(&job)), (State::Running, vec![1, 2]));
    finish(&mut job, 2, End::Done);
    assert_eq!(wanted(&job), [1]);
    finish(&mut job, 1, End::Done);
    finish(&mut job, 3, End::Done);
    assert_eq!(job.state(), State::Completed);
}

#[test]
fn a_task_that_fails_for_good_ends_the_job_once_what_runs_has_ended() {
    let mut job = diamond();
    finish(&mut job, 0, End::Done);
    let index = start(&mut job, 2);
    finish(&mut job, 1, End::Failed);
    assert_eq!((job.state(), job.tasks[3].state), (State::Running, State::Cancelled));
    assert!(job.end(2, index, End::Retry(NOW)));
    assert_eq!((job.state(), job.tasks[2].state), (State::Failed, State::Cancelled));
}

#[test]
fn what_is_given_back_is_not_charged() {
    let mut job = single(None);
    for _ in 0..10 {
        finish(&mut job, 0, End::GivenBack);
        assert_eq!((job.state(), job.tasks[0].attempts, job.tasks[0].run), (State::Pending, 0, 1));
    }
}

#[test]
fn who_lost_a_task_cannot_end_it() {
    let mut job = single(None);
    let lost = start(&mut job, 0);
    assert_eq!(job.begin(0, 1, MOST), Begun::Started { start: 2, attempt: 2, lost: true });
    assert!(!job.end(0, lost, End::Done));
    assert!(job.end(0, 2, End::Done));
    assert_eq!(job.begin(0, 1, MOST), Begun::Stale);
}

#[test]
fn what_vanishes_with_every_attempt_has_failed() {
    let mut job = single(None);
    (0..MOST).for_each(|_| _ = start(&mut job, 0));
    assert_eq!(job.begin(0, 1, MOST), Begun::Exhausted);
    assert_eq!(job.state(), State::Failed);
}

#[test]
fn what_vanishes_after_it_was_told_to_stop_is_stopped_unless_it_was_its_last_attempt() {
    for (most, begun, state) in [(2, Begun::Vanished, State::Stopped), (1, Begun::Exhausted, State::Failed)] {
        let mut job = single(None);
        start(&mut job, 0);
        job.stop(None, NOW).unwrap();
        assert_eq!(job.begin(0, 1, most), begun);
        assert_eq!(job.state(), state);
    }
}

#[test]
fn what_vanishes_when_nothing_more_is_to_begin_does_not_begin_again() {
    let mut job = single(None);
    start(&mut job, 0);
    job.stop(None, NOW).unwrap();
    assert_eq!(job.begin(0, 1, MOST), Begun::Vanished);
    assert_eq!((job.state(), job.tasks[0].attempts), (State::Stopped, 1));
    // The other of two has failed the job meanwhile.
    let mut job = Machine::new(vec![Step::new(vec![], None), Step::new(vec![], None)]);
    start(&mut job, 0);
    finish(&mut job, 1, End::Failed);
    assert_eq!(job.begin(0, 1, MOST), Begun::Vanished);
    assert_eq!((job.state(), job.tasks[0].state), (State::Failed, State::Cancelled));
}

#[test]
fn stop_and_resume_in_each_state() {
    let later = NOW + Duration::hours(1);
    // Scheduled: its time counts still.
    let mut job = single(Some(later));
    job.stop(None, NOW).unwrap();
    job.stop(None, NOW).unwrap();
    assert_eq!(job.state(), State::Stopped);
    job.resume(None, NOW).unwrap();
    assert_eq!((job.state(), job.tasks[0].due), (State::Scheduled, Some(later)));
    // Scheduled, resumed after its time.
    job.stop(None, NOW).unwrap();
    job.resume(None, later).unwrap();
    assert_eq!((job.state(), wanted(&job)), (State::Pending, vec![0]));
    // Pending: the delivery that is under way is stale, and comes again under another run.
    job.stop(None, NOW).unwrap();
    assert_eq!(job.begin(0, 1, MOST), Begun::Stale);
    job.stop(None, NOW).unwrap();
    job.resume(None, NOW).unwrap();
    assert_eq!(job.tasks[0].run, 2);
    // Running: told, and given back.
    let begun = start(&mut job, 0);
    job.stop(None, NOW).unwrap();
    assert_eq!((job.state(), job.tasks[0].told), (State::Running, Some(Told::Stop)));
    assert!(job.end(0, begun, End::GivenBack));
    assert_eq!((job.state(), job.tasks[0].attempts), (State::Stopped, 0));
    job.resume(None, NOW).unwrap();
    // Running: told, and resumed before it has ended.
    let begun = start(&mut job, 0);
    job.stop(None, NOW).unwrap();
    job.resume(None, NOW).unwrap();
    assert!(job.end(0, begun, End::Retry(later)));
    // Retrying: begins at once when it is resumed.
    assert_eq!(job.state(), State::Retrying);
    job.stop(None, NOW).unwrap();
    job.resume(None, NOW).unwrap();
    assert_eq!(job.state(), State::Pending);
    assert_eq!(job.resume(None, NOW), Err(Error::NotStopped(State::Pending)));
    // Running: told, and ends as if it hadn't been.
    let begun = start(&mut job, 0);
    job.stop(None, NOW).unwrap();
    assert!(job.end(0, begun, End::Done));
    assert_eq!(job.stop(None, NOW), Err(Error::Ended(State::Completed)));
    assert_eq!(job.resume(None, NOW), Err(Error::Ended(State::Completed)));
    assert_eq!(job.cancel(None), Err(Error::Ended(State::Completed)));
}

#[test]
fn cancel_in_each_state() {
    let states: [fn(&mut Machine); 5] = [
        |_| {},
        |job| _ = start(job, 0),
        |job| finish(job, 0, End::Retry(NOW)),
        |job| job.stop(None, NOW).unwrap(),
        |job| {
            start(job, 0);
            job.stop(None, NOW).unwrap();
        },
    ];
    for reach in states {
        let mut job = single(None);
        reach(&mut job);
        let (running, begun) = (job.tasks[0].state == State::Running, job.tasks[0].starts);
        job.cancel(None).unwrap();
        assert_eq!(job.state(), State::Cancelled);
        assert_eq!(job.tasks[0].told, running.then_some(Told::Cancel));
        assert!(!job.end(0, begun, End::Done), "what a cancelled handler says doesn't count");
        job.cancel(None).unwrap();
        assert_eq!(job.stop(None, NOW), Err(Error::Ended(State::Cancelled)));
    }
}

#[test]
fn a_cancelled_task_takes_along_what_comes_after_it_and_nothing_else() {
    let mut job = diamond();
    finish(&mut job, 0, End::Done);
    job.cancel(Some(1)).unwrap();
    assert_eq!(
        job.tasks.iter().map(|task| task.state).collect::<Vec<_>>(),
        [State::Completed, State::Cancelled, State::Pending, State::Cancelled]
    );
    finish(&mut job, 2, End::Done);
    assert_eq!(job.state(), State::Cancelled);
}

#[test]
fn a_stopped_task_holds_what_comes_after_it() {
    let mut job = diamond();
    finish(&mut job, 0, End::Done);
    job.stop(Some(1), NOW).unwrap();
    finish(&mut job, 2, End::Done);
    assert_eq!(job.state(), State::Stopped);
    job.resume(Some(1), NOW).unwrap();
    finish(&mut job, 1, End::Done);
    finish(&mut job, 3, End::Done);
    assert_eq!(job.state(), State::Completed);
}

#[derive(Clone, Debug)]
enum Act {
    Deliver(usize),
    End(usize, u8),
    Due,
    Stop(Option<usize>),
    Resume(Option<usize>),
    Cancel(usize),
    Poison(usize),
    Republish(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let at = 0..6_usize;
    prop_oneof![
        6 => at.clone().prop_map(Act::Deliver),
        6 => (at.clone(), 0..8_u8).prop_map(|(at, end)| Act::End(at, end)),
        2 => Just(Act::Due),
        1 => proptest::option::of(at.clone()).prop_map(Act::Stop),
        2 => proptest::option::of(at.clone()).prop_map(Act::Resume),
        1 => at.clone().prop_map(Act::Cancel),
        1 => at.clone().prop_map(Act::Poison),
        1 => at.prop_map(Act::Republish),
    ]
}

fn apply(job: &mut Machine, act: &Act) {
    let tasks = job.tasks.len();
    let clamp = |which: Option<usize>| which.map(|at| at % tasks);
    match act {
        Act::Deliver(at) => {
            let at = at % tasks;
            // Only what is on the bus is delivered.
            if job.tasks[at].run > 0 {
                job.begin(at, job.tasks[at].run, MOST);
            }
        }
        Act::End(at, end) => {
            let end = match end {
                1 => End::GivenBack,
                2 | 3 if job.tasks[at % tasks].attempts < MOST => End::Retry(NOW),
                0 | 2 | 3 => End::Failed,
                _ => End::Done,
            };
            job.end(at % tasks, job.tasks[at % tasks].starts, end);
        }
        Act::Due => job.due(NOW),
        Act::Stop(which) => _ = job.stop(clamp(*which), NOW),
        Act::Resume(which) => _ = job.resume(clamp(*which), NOW),
        Act::Cancel(at) => _ = job.cancel(Some(at % tasks)),
        Act::Poison(at) => _ = job.poison(at % tasks, job.tasks[at % tasks].run),
        Act::Republish(at) => _ = job.republish(at % tasks, job.tasks[at % tasks].run),
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_stuck_and_what_is_final_stays(
        needs in proptest::collection::vec(proptest::collection::vec(0..6_usize, 0..3), 1..6),
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let steps = needs.iter().enumerate().map(|(at, needs)| {
            let mut needs: Vec<usize> = needs.iter().copied().filter(|need| *need < at).collect();
            needs.dedup();
            Step::new(needs, (at % 2 == 0).then_some(NOW))
        });
        let mut job = Machine::new(steps.collect());
        for act in &acts {
            let before = job.clone();
            apply(&mut job, act);
            for (at, (was, is)) in before.tasks.iter().zip(&job.tasks).enumerate() {
                prop_assert!(!was.state.is_final() || was.state == is.state, "{at} after {act:?}");
                prop_assert!(is.run >= was.run && is.starts >= was.starts);
                if is.starts > was.starts {
                    prop_assert!(is.needs.iter().all(|need| job.tasks[*need].state == State::Completed));
                }
                prop_assert!(is.attempts <= MOST);
            }
            prop_assert!(!before.state().is_final() || before.state() == job.state());
        }
        // Whatever state it was left in: resumed, and with workers that do their work, it ends.
        for _ in 0..20 {
            _ = job.resume(None, NOW);
            job.due(NOW);
            for at in 0..job.tasks.len() {
                let (run, state, dispatch) = (job.tasks[at].run, job.tasks[at].state, job.tasks[at].dispatch);
                let delivered = state == State::Running || dispatch != Dispatch::Idle;
                if delivered && let Begun::Started { start, .. } = job.begin(at, run, MOST) {
                    job.end(at, start, End::Done);
                }
            }
        }
        prop_assert!(job.state().is_final(), "{job:?}");
    }
}
