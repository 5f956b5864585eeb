use e2e::{Options, System};

#[tokio::test]
async fn a_hundred_requests_pass_in_a_minute_and_the_next_waits() {
    let system = System::start(Options::default()).await;
    let demo = system.demo();
    for number in 1..=100 {
        let answer = demo.get("/cart").await.expect(200);
        assert!(answer.header("ratelimit").is_some(), "request {number} says nothing of the limit");
    }
    let refused = demo.get("/cart").await;
    let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
    // The window errs by at most a 64th, on the strict side.
    assert!((1..=61).contains(&wait), "{wait}");
    refused.problem(429);

    // Another principal has a hundred of its own.
    system.customer("patient@example.com").await.get("/cart").await.expect(200);
}
