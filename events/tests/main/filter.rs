use events::{Condition, Envelope, Filter, Name, Pattern};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use crate::envelope;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn order() -> Envelope {
    let mut event =
        Envelope::new("/services/order", name("ORDERS"), name("PLACED")).subject("orders/7").priority(7).data(json!({
            "status": "NEW", "total": 12.5, "count": "9007199254740993", "paid": false, "note": null,
            "items": [{"sku": "lamp", "tags": []}], "a.b": {"c d": 1}, "": 3,
        }));
    event.extensions.insert("tenant".to_owned(), json!("7"));
    event
}

#[test]
fn a_filter_takes_one_some_or_all_events_of_its_queue() {
    for (filter, create, delete) in
        [("DB/*", true, true), ("DB/CREATE", true, false), ("DB/{CREATE,UPDATE}", true, false)]
    {
        let parsed: Filter = filter.parse().unwrap();
        assert_eq!(parsed.to_string(), filter);
        assert_eq!(parsed.matches(&envelope()), create, "{filter}");
        assert_eq!(parsed.takes(&name("DB"), &name("DELETE")), delete, "{filter}");
        assert!(!parsed.takes(&name("INVOICES"), &name("CREATE")), "{filter}");
    }
}

#[test]
fn a_condition_holds_or_not() {
    let order = order();
    let holds = |condition: &str| condition.parse::<Condition>().unwrap().holds(&order);
    for holding in [
        "[data.status=NEW]",
        "data.status = \"NEW\"",
        "[ priority in 7 | 8|9 ]",
        "[priority=7.0]",
        "[subject^=orders/]",
        "[data.total=12.50]",
        "[data.total in 1|12.5]",
        "[data.count=9007199254740993]",
        "[data.count^=9007]",
        "[data.paid=false]",
        "[data.items exists]",
        "[data.items.0.sku=lamp]",
        "[data.items.0.tags exists]",
        r#"[data."a.b"."c d"=1]"#,
        "[tenant=7]",
        r#"[tenant="7"]"#,
        "[queue=ORDERS]",
        "[time^=2]",
        "[source^=/services/]",
    ] {
        assert!(holds(holding), "{holding}");
    }
    for failing in [
        "[data.status=new]",
        "[data.status^=\"NEW \"]",
        "[priority in 8|9]",
        r#"[priority="7"]"#,
        "[priority^=7]",
        "[data.count=9007199254740992]",
        "[data.paid=\"false\"]",
        "[data.paid in true|FALSE]",
        "[data.note exists]",
        "[data.items=lamp]",
        "[data.items.1.sku exists]",
        "[data.items.sku exists]",
        "[data.status.deeper exists]",
        "[replyto exists]",
        "[owner=\"\"]",
        "[data.total=12]",
    ] {
        assert!(!holds(failing), "{failing}");
    }
    let binary = envelope().binary("text/plain", vec![1]);
    assert!(!"data.status exists".parse::<Condition>().unwrap().holds(&binary));
}

#[test]
fn all_conditions_must_hold() {
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    assert!(filter("ORDERS/PLACED[data.status=NEW][priority in 7|8]").matches(&order()));
    assert!(!filter("ORDERS/PLACED[data.status=NEW][priority=8]").matches(&order()));
    assert!(!filter("ORDERS/SHIPPED[data.status=NEW]").matches(&order()));
    assert!(filter("ORDERS/PLACED[priority=8]").takes(&name("ORDERS"), &name("PLACED")));
}

#[test]
fn a_pattern_is_on_every_queue() {
    for (pattern, order_placed, db_create) in [
        ("*/*", true, true),
        ("*/CREATE", false, true),
        ("*/{CREATE,PLACED}", true, true),
        ("*/*[priority=7]", true, false),
        ("ORDERS/*", true, false),
    ] {
        let parsed: Pattern = pattern.parse().unwrap();
        assert_eq!(parsed.to_string(), pattern);
        assert_eq!(parsed.matches(&order()), order_placed, "{pattern}");
        assert_eq!(parsed.matches(&envelope()), db_create, "{pattern}");
    }
    let pattern: Pattern = "*/CREATE[owner exists]".parse().unwrap();
    assert_eq!(pattern.on(&name("DB")), Some("DB/CREATE[owner exists]".parse().unwrap()));
    assert_eq!("DB/*".parse::<Pattern>().unwrap().on(&name("ORDERS")), None);
    assert_eq!(Pattern::from("DB/*[id exists]".parse::<Filter>().unwrap()).to_string(), "DB/*[id exists]");
}

#[test]
fn a_wider_pattern_covers_a_narrower_one() {
    let covers = |wide: &str, narrow: &str| wide.parse::<Pattern>().unwrap().covers(&narrow.parse().unwrap());
    for (wide, narrow) in [
        ("*/*", "DB/*"),
        ("*/*", "*/*"),
        ("DB/*", "DB/A"),
        ("*/A", "DB/A"),
        ("DB/{A,B}", "DB/B"),
        ("DB/*", "DB/*[owner=x]"),
        ("DB/*[owner=x]", "DB/A[priority=1][owner=x]"),
    ] {
        assert!(covers(wide, narrow), "{wide} {narrow}");
    }
    for (wide, narrow) in [
        ("DB/*", "*/*"),
        ("DB/A", "DB/*"),
        ("*/A", "DB/*"),
        ("DB/*", "*/A"),
        ("DB/A", "DB/{A,B}"),
        ("DB/*[owner=x]", "DB/*"),
        ("DB/*[owner=x]", "DB/*[owner=y]"),
    ] {
        assert!(!covers(wide, narrow), "{wide} {narrow}");
    }
}

#[test]
fn a_widened_filter_takes_what_both_took() {
    let widened = |one: &str, other: &str| {
        let mut filter: Filter = one.parse().unwrap();
        filter.widen(&other.parse().unwrap());
        filter.to_string()
    };
    assert_eq!(widened("DB/CREATE", "DB/{CREATE,DELETE}"), "DB/{CREATE,DELETE}");
    assert_eq!(widened("DB/CREATE", "DB/*"), "DB/*");
    assert_eq!(widened("DB/A[id=a][id=b]", "DB/B[id=c][id=b]"), "DB/{A,B}[id=b]");
    let many =
        |from: u32| format!("DB/{{{}}}", (from..from + 40).map(|at| at.to_string()).collect::<Vec<_>>().join(","));
    assert_eq!(widened(&many(0), &many(40)), "DB/*", "more than a filter names");
}

#[test]
fn patterns_stand_in_a_list() {
    let list = Pattern::list(r#"DB/{A,B}[id in "a,b"|c],*/*[data.x="],"]"#).unwrap();
    let texts: Vec<String> = list.iter().map(Pattern::to_string).collect();
    assert_eq!(texts, [r#"DB/{A,B}[id in "a,b"|c]"#, r#"*/*[data.x="],"]"#]);
    for text in ["", "DB/*,", ",DB/*", "DB/* ,A/*"] {
        assert!(Pattern::list(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_the_reason() {
    let conditions = |count: usize| format!("DB/*{}", "[id exists]".repeat(count));
    let values = |count: usize| format!("DB/*[id in {}]", vec!["a"; count].join("|"));
    let value = |bytes: usize| format!("DB/*[id={}]", "a".repeat(bytes));
    let path = |fields: usize| format!("DB/*[data{} exists]", ".a".repeat(fields));
    let events = |count: usize| format!("DB/{{{}}}", vec!["A"; count].join(","));
    for taken in [conditions(16), values(64), value(256), path(8), events(64)] {
        assert!(taken.parse::<Filter>().is_ok(), "{taken:.40}");
    }
    let long = format!("DB/*[id=a{}]", " ".repeat(9000));
    for refused in [conditions(17), values(65), value(257), path(9), events(65), long] {
        assert!(refused.parse::<Filter>().is_err(), "{refused:.40}");
    }
    for text in [
        "",
        "DB",
        "*/",
        "DB/",
        "DB/{}",
        "DB/{CREATE",
        "DB/{A,*}",
        "DB/create",
        "db/*",
        "DB/A/B",
        "DB/*[",
        "DB/*[]",
        "DB/*[id]",
        "DB/*[id=]",
        "DB/*[id=a",
        "DB/*[id=a]]",
        "DB/*[id=a]x",
        "DB/*[id==\"a]",
        "DB/*[ID=a]",
        "DB/*[data=a]",
        "DB/*[data.=a]",
        "DB/*[data..a=a]",
        "DB/*[id in]",
        "DB/*[id in a|]",
        "DB/*[id exist]",
        "DB/*[id=null]",
        "DB/*[specversion=1]",
        "DB/*[cursor=a]",
        "DB/*[data.a\"b\"=1]",
        "DB/*[id=\"\\x\"]",
        "DB/*[id=\"a\"b]",
        "DB/* [id=a]",
    ] {
        let error = text.parse::<Filter>().map(|filter| filter.to_string()).unwrap_err().to_string();
        assert!(error.contains("is not a filter: ") && error.len() < 300, "{error}");
    }
    assert!("*/CREATE".parse::<Filter>().unwrap_err().to_string().contains("must name its queue"));
}

/// Any value that a condition compares with, as text in quotes, or bare where it can be.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}".prop_map(|text| Value::String(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("a number", |number| number.is_finite()).prop_map(|number| json!(number).to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        "[a-zA-Z0-9/._:=^*-]{1,20}".prop_filter("a word", |word| word != "null"),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let member = prop_oneof!["[a-zA-Z0-9_-]{1,10}", "\\PC{1,20}".prop_map(|text| Value::String(text).to_string())];
    let field = prop_oneof![
        prop::sample::select(vec!["id", "subject", "priority", "tenant", "x1"]).prop_map(str::to_owned),
        vec(member, 1..4).prop_map(|members| format!("data.{}", members.join("."))),
    ];
    let test = prop_oneof![
        value().prop_map(|value| format!("={value}")),
        vec(value(), 1..5).prop_map(|values| format!(" in {}", values.join("|"))),
        "\\PC{0,20}".prop_map(|text| format!("^={}", Value::String(text))),
        Just(" exists".to_owned()),
    ];
    (field, test).prop_map(|(field, test)| format!("[{field}{test}]"))
}

proptest! {
    #[test]
    fn a_filter_survives_its_text_form(
        queue in option::of("[A-Z0-9][A-Z0-9_-]{0,10}"),
        events in option::of(vec("[A-Z0-9][A-Z0-9_-]{0,10}", 1..4)),
        conditions in vec(condition(), 0..4),
    ) {
        let events = events.map_or("*".to_owned(), |events| format!("{{{}}}", events.join(",")));
        let text = format!("{}/{events}{}", queue.as_deref().unwrap_or("*"), conditions.concat());
        let pattern: Pattern = text.parse().unwrap();
        let written = pattern.to_string();
        prop_assert_eq!(written.parse::<Pattern>().unwrap(), pattern.clone(), "{}", written);
        prop_assert_eq!(Pattern::list(&format!("{written},{written}")).unwrap(), [pattern.clone(), pattern.clone()]);
        if queue.is_some() {
            let filter: Filter = written.parse().unwrap();
            prop_assert_eq!(filter.to_string(), written);
        }
        pattern.matches(&order());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}", tail in "[\\[\\]\"a-z.=^| *{},\\\\0-9-]{0,40}") {
        let _ = Pattern::list(&text);
        let _ = format!("DB/*[{tail}").parse::<Filter>();
        let _ = tail.parse::<Condition>();
    }
}
