//! What a caller may do, compiled: scopes, claims and subjects, put together by all, any and not.

use std::{fmt, sync::Arc};

use principal::Principal;

use crate::config::Requirement;

/// How deep requirements may stand in each other, and how many there may be.
const DEEPEST: usize = 8;
const MOST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
    Scope(String),
    Subject {
        name: String,
        /// It is what the subject begins with.
        prefix: bool,
    },
    Claim {
        name: String,
        test: Test,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Present,
    Is(Value),
    In(Vec<Value>),
    Has(Value),
}

/// What a claim is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Fixed(String),
    /// What the request has for this variable of the route's path.
    Variable(String),
}

/// What is wrong with a requirement, and where in it.
pub type Fault = (String, String);

impl Rule {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(requirement: &Requirement) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { faults: Vec::new(), count: 0 };
        let rule = reader.requirement("", requirement, 0);
        if reader.count > MOST {
            reader.faults.push((String::new(), format!("has more than {MOST} requirements")));
        }
        if reader.faults.is_empty() { Ok(rule) } else { Err(reader.faults) }
    }

    pub fn holds(&self, caller: &Principal, variables: &[(Arc<str>, String)]) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.holds(caller, variables)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(caller, variables)),
            Self::Not(rule) => !rule.holds(caller, variables),
            Self::Scope(scope) => caller.has_scope(scope),
            Self::Subject { name, prefix: true } => caller.subject.starts_with(name),
            Self::Subject { name, prefix: false } => caller.subject == *name,
            Self::Claim { name, test } => caller.claims.get(name).is_some_and(|claim| test.holds(claim, variables)),
        }
    }

    /// The variables of the route's path that it looks at.
    pub fn variables(&self) -> Vec<&str> {
        fn of(value: &Value) -> Option<&str> {
            match value {
                Value::Variable(name) => Some(name),
                Value::Fixed(_) => None,
            }
        }
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().flat_map(Self::variables).collect(),
            Self::Not(rule) => rule.variables(),
            Self::Claim { test: Test::Is(value) | Test::Has(value), .. } => of(value).into_iter().collect(),
            Self::Claim { test: Test::In(values), .. } => values.iter().filter_map(of).collect(),
            Self::Claim { test: Test::Present, .. } | Self::Scope(_) | Self::Subject { .. } => Vec::new(),
        }
    }

    /// The scopes that it speaks of, for a challenge.
    pub fn scopes(&self) -> Vec<&str> {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().flat_map(Self::scopes).collect(),
            Self::Scope(scope) => vec![scope],
            Self::Not(_) | Self::Subject { .. } | Self::Claim { .. } => Vec::new(),
        }
    }
}

impl Test {
    fn holds(&self, claim: &str, variables: &[(Arc<str>, String)]) -> bool {
        match self {
            Self::Present => true,
            Self::Is(value) => value.is(claim, variables),
            Self::In(values) => values.iter().any(|value| value.is(claim, variables)),
            Self::Has(value) => claim.split_ascii_whitespace().any(|word| value.is(word, variables)),
        }
    }
}

impl Value {
    fn read(text: &str) -> Self {
        match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => Self::Variable(name.to_owned()),
            None => Self::Fixed(text.to_owned()),
        }
    }

    fn is(&self, text: &str, variables: &[(Arc<str>, String)]) -> bool {
        match self {
            Self::Fixed(own) => own == text,
            Self::Variable(name) => variables.iter().any(|(own, value)| **own == **name && value == text),
        }
    }
}

struct Reader {
    faults: Vec<Fault>,
    count: usize,
}

impl Reader {
    fn fault(&mut self, path: &str, member: &str, message: impl Into<String>) {
        let path =
            if path.is_empty() || member.is_empty() { format!("{path}{member}") } else { format!("{path}.{member}") };
        self.faults.push((path, message.into()));
    }

    fn requirement(&mut self, path: &str, requirement: &Requirement, depth: usize) -> Rule {
        self.count += 1;
        let mut rules = Vec::new();
        if depth >= DEEPEST {
            self.fault(path, "", format!("is nested more than {DEEPEST} deep"));
            return Rule::All(rules);
        }
        for (member, list) in [("all", &requirement.all), ("any", &requirement.any)] {
            let Some(list) = list else { continue };
            if list.is_empty() {
                self.fault(path, member, "names nothing");
            }
            let parts = list.iter().enumerate();
            let parts = parts
                .map(|(at, part)| {
                    let place =
                        if path.is_empty() { format!("{member}[{at}]") } else { format!("{path}.{member}[{at}]") };
                    self.requirement(&place, part, depth + 1)
                })
                .collect();
            rules.push(if member == "all" { Rule::All(parts) } else { Rule::Any(parts) });
        }
        if let Some(not) = &requirement.not {
            let place = if path.is_empty() { "not".to_owned() } else { format!("{path}.not") };
            rules.push(Rule::Not(Box::new(self.requirement(&place, not, depth + 1))));
        }
        rules.extend(requirement.scope.0.iter().cloned().map(Rule::Scope));
        if let Some(subject) = &requirement.subject {
            let (name, prefix) = match subject.strip_suffix('*') {
                Some(name) => (name.to_owned(), true),
                None => (subject.clone(), false),
            };
            rules.push(Rule::Subject { name, prefix });
        }
        rules.extend(self.claim(path, requirement));
        match (rules.len(), rules.pop()) {
            (1, Some(only)) => only,
            (_, Some(last)) => {
                rules.push(last);
                Rule::All(rules)
            }
            (_, None) => {
                self.fault(path, "", "asks for nothing");
                Rule::All(rules)
            }
        }
    }

    fn claim(&mut self, path: &str, requirement: &Requirement) -> Option<Rule> {
        let tests = [requirement.is.is_some(), requirement.r#in.is_some(), requirement.has.is_some()];
        let tests = tests.into_iter().filter(|test| *test).count();
        let Some(name) = &requirement.claim else {
            if tests > 0 {
                self.fault(path, "", "`is`, `in` and `has` are of a `claim`");
            }
            return None;
        };
        if tests > 1 {
            self.fault(path, "", "a claim has one of `is`, `in` and `has`");
        }
        if requirement.r#in.as_ref().is_some_and(Vec::is_empty) {
            self.fault(path, "in", "names nothing");
        }
        let test = match (&requirement.is, &requirement.r#in, &requirement.has) {
            (Some(text), _, _) => Test::Is(Value::read(text)),
            (_, Some(list), _) => Test::In(list.iter().map(|text| Value::read(text)).collect()),
            (_, _, Some(word)) => Test::Has(Value::read(word)),
            (None, None, None) => Test::Present,
        };
        Some(Rule::Claim { name: name.clone(), test })
    }
}

/// As a refusal says it: "the scope a and one of (the claim b to be c, the subject d)".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(rules) | Self::Any(rules) if rules.len() == 1 => rules[0].fmt(f),
            Self::All(rules) => join(f, rules, " and "),
            Self::Any(rules) => {
                f.write_str("one of (")?;
                join(f, rules, ", ")?;
                f.write_str(")")
            }
            Self::Not(rule) => write!(f, "anything but ({rule})"),
            Self::Scope(scope) => write!(f, "the scope {scope}"),
            Self::Subject { name, prefix } => write!(f, "the subject {name}{}", if *prefix { "*" } else { "" }),
            Self::Claim { name, test: Test::Present } => write!(f, "the claim {name}"),
            Self::Claim { name, test: Test::Is(value) } => write!(f, "the claim {name} to be {value}"),
            Self::Claim { name, test: Test::Has(value) } => write!(f, "{value} in the claim {name}"),
            Self::Claim { name, test: Test::In(values) } => {
                write!(f, "the claim {name} to be one of (")?;
                join(f, values, ", ")?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(text) => f.write_str(text),
            Self::Variable(name) => write!(f, "the {name} of the path"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display], separator: &str) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rule, Vec<Fault>> {
        Rule::new(&serde_saphyr::from_str(text).unwrap())
    }

    fn holds(text: &str, scopes: &[&str], claims: &[(&str, &str)]) -> bool {
        let caller = Principal {
            subject: "users/1".to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            claims: claims.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        read(text).unwrap().holds(&caller, &[("tenant".into(), "a".to_owned())])
    }

    #[test]
    fn requirements_hold_together() {
        let text = "{all: [{scope: w}, {claim: tenant, in: [a, b]}], any: [{claim: staff}, {subject: 'users/*'}]}";
        assert!(holds(text, &["w"], &[("tenant", "b")]));
        assert!(!holds(text, &["r"], &[("tenant", "b")]));
        assert!(!holds(text, &["w"], &[("tenant", "c")]));
        assert!(!holds(text, &["w"], &[]));
        assert!(holds("{scope: [a, b]}", &["b", "a"], &[]));
        assert!(!holds("{scope: [a, b]}", &["a"], &[]));
        assert!(holds("{not: {claim: blocked, is: 'true'}}", &[], &[("blocked", "false")]));
        assert!(!holds("{not: {claim: blocked, is: 'true'}}", &[], &[("blocked", "true")]));
        assert!(holds("{claim: roles, has: admin}", &[], &[("roles", "user admin")]));
        assert!(!holds("{claim: roles, has: admin}", &[], &[("roles", "user administrator")]));
        assert!(holds("{subject: users/1}", &[], &[]) && !holds("{subject: users/}", &[], &[]));
    }

    #[test]
    fn a_claim_may_have_to_be_what_the_path_says() {
        assert!(holds("{claim: tenant, is: '{tenant}'}", &[], &[("tenant", "a")]));
        assert!(!holds("{claim: tenant, is: '{tenant}'}", &[], &[("tenant", "b")]));
        assert!(holds("{claim: tenants, has: '{tenant}'}", &[], &[("tenants", "b a")]));
        let text = "{any: [{claim: a, is: '{x}'}, {not: {claim: b, in: ['{y}', z]}}, {claim: c, has: w}, {scope: v}]}";
        assert_eq!(read(text).unwrap().variables(), ["x", "y"]);
    }

    #[test]
    fn what_makes_no_sense_is_a_fault_with_its_place() {
        for (text, place) in [
            ("{}", ""),
            ("{all: []}", "all"),
            ("{all: [{scope: a}, {}]}", "all[1]"),
            ("{any: [{not: {is: a}}]}", "any[0].not"),
            ("{claim: a, in: []}", "in"),
            ("{claim: a, is: b, has: c}", ""),
        ] {
            let faults = read(text).unwrap_err();
            assert_eq!(faults[0].0, place, "{text}: {faults:?}");
        }
        let deep = format!("{}{{scope: a}}{}", "{not: ".repeat(9), "}".repeat(9));
        assert!(read(&deep).unwrap_err()[0].1.contains("nested"));
        let many = format!("{{any: [{}]}}", "{scope: a}, ".repeat(70));
        assert!(read(&many).unwrap_err()[0].1.contains("more than 64"));
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let text = "{all: [{scope: w}, {claim: tenant, is: '{tenant}'}], any: [{claim: staff}, {claim: r, has: x}]}";
        assert_eq!(
            read(text).unwrap().to_string(),
            "the scope w and the claim tenant to be the tenant of the path and one of (the claim staff, x in the claim r)"
        );
        assert_eq!(read(text).unwrap().scopes(), ["w"]);
    }
}
