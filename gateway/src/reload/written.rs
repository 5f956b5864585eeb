//! The configuration as it was written, for operators: with the values of `${NAME}`, without secrets; and what differs
//! between two of them.

use serde_json::Value;

use crate::Properties;

/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// Parts of the names of keys whose values are not shown. Sections and lists below them are: their leaves have names too.
const SECRET: [&str; 11] = [
    "secret",
    "password",
    "passwd",
    "token",
    "credential",
    "authorization",
    "cookie",
    "private",
    // Of header fields and query parameters: `x-api-key`, `apikey`, `api_key`.
    "-key",
    "apikey",
    "api_key",
];
/// How what a header field must be is written, where it is not its value alone.
const WAYS: [&str; 2] = ["exact", "prefix"];
/// Differences that are told, at most.
const TOLD: usize = 50;

/// Null if it is no YAML, which whoever parsed it has told of.
pub fn read(text: &str, properties: &Properties) -> Value {
    let options = serde_saphyr::options! {}.with_properties(properties.clone());
    let mut value = serde_saphyr::from_str_with_options(text, options).unwrap_or_default();
    hide(&mut value);
    value
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let is_secret = is_secret(key);
                if is_secret && (value.is_string() || value.is_number()) {
                    *value = HIDDEN.into();
                    continue;
                }
                for way in WAYS.iter().filter(|_| is_secret) {
                    value.get_mut(*way).into_iter().for_each(|value| *value = HIDDEN.into());
                }
                hide(value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::String(text) => {
            if let Some(hidden) = without_password(text) {
                *text = hidden;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `redis://user:password@host?sentinel_password=secret` without what stands before the host, and without the values of
/// parameters that are called as secrets are. None: it has neither.
fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let authority = place.split(['/', '#']).next()?;
    let shown = match authority.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://{HIDDEN}{}", &place[secret.len()..]),
        None => format!("{scheme}://{place}"),
    };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    let shown = query.map_or_else(|| shown.clone(), |query| format!("{shown}?{query}"));
    (shown != url).then_some(shown)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// What is different, a line each: `timeout: "3s", was "15s"`. Entries of a list are compared by what names them, so that
/// one more in the middle is one difference.
pub fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    if found.len() > TOLD {
        let more = found.len() - TOLD;
        found.truncate(TOLD);
        found.push(format!("and {more} more"));
    }
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let own = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(own) {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&below, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            let (old, new) = (named(old), named(new));
            let own = new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name));
            for (name, _) in old.iter().chain(own) {
                compare(&format!("{path}[{name}]"), of(&old, name), of(&new, name), found);
            }
        }
        (Some(old), Some(new)) => found.push(format!("{path}: {}, was {}", short(new), short(old))),
        (None, Some(_)) => found.push(format!("{path}: new")),
        (Some(_), None) => found.push(format!("{path}: gone")),
        (None, None) => {}
    }
}

type Named<'a> = Vec<(String, &'a Value)>;

fn of<'a>(list: &Named<'a>, name: &str) -> Option<&'a Value> {
    list.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
}

/// The entries of a list by what they say they are; several of one name are numbered.
fn named(list: &[Value]) -> Named<'_> {
    let mut named = Named::new();
    for value in list {
        let name = name_of(value);
        let same = named.iter().filter(|(other, _)| other.split(" #").next() == Some(&name)).count();
        named.push((if same == 0 { name } else { format!("{name} #{}", same + 1) }, value));
    }
    named
}

fn name_of(value: &Value) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if let Some(name) = ["name", "grpc", "part", "address", "issuer"].into_iter().find_map(text) {
        return name.to_owned();
    }
    match value.get("match") {
        Some(matches) => {
            let host = matches.get("host").and_then(Value::as_str).unwrap_or_default();
            let path = matches.get("path").and_then(Value::as_str).unwrap_or_default();
            let method = matches.get("method").map(short);
            format!("{}{host}{path}", method.map(|method| method.replace('"', "") + " ").unwrap_or_default())
        }
        None => short(value),
    }
}

fn short(value: &Value) -> String {
    const LENGTH: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Value {
        read(text, &Properties::from([("PASSWORD".to_owned(), "hunter2".to_owned())]))
    }

    #[test]
    fn no_secret_is_shown() {
        let text = "shared: {redis: 'redis://me:${PASSWORD}@cache:6379/0'}\n\
                    authentication: {oidc: {client_secret: '${PASSWORD}'}, api_keys: {file: keys.yaml}}\n\
                    routes:\n- match: {headers: {Authorization: hunter2, X-Api-Key: {exact: hunter2}, cookie: {prefix: hunter2}}}\n  \
                    request_headers: {set: {x-api-key: hunter2}}\n  proxy: {rewrite: {query: {set: {apikey: hunter2}}}}\n";
        let shown = of(text);
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["shared"]["redis"], "redis://***@cache:6379/0");
        assert_eq!(shown["authentication"]["api_keys"]["file"], "keys.yaml");
    }

    #[test]
    fn no_secret_is_shown_of_a_redis() {
        let url = "redis+sentinel://me:hunter2@a:1,b:2/events?sentinel_password=hunter2&ca=/etc/ca.crt";
        let shown = of(&format!(
            "shared: {{redis: '{url}'}}\n\
             cache: {{redis: {{url: 'redis://cache', user: me, password: hunter2, key: me.key}}}}\n"
        ));
        let hidden = "redis+sentinel://***@a:1,b:2/events?sentinel_password=***&ca=/etc/ca.crt";
        assert_eq!(shown["shared"]["redis"], hidden);
        let parts = serde_json::json!({"url": "redis://cache", "user": "me", "password": "***", "key": "me.key"});
        assert_eq!(shown["cache"]["redis"], parts);
    }

    #[test]
    fn differences_are_told_by_name() {
        let old =
            of("timeout: 15s\nroutes: [{match: {path: /a}, proxy: one}, {match: {path: /b, method: GET}, proxy: one}]");
        let new = of("timeout: 3s\nroutes: [{match: {path: /c}}, {match: {path: /a}, proxy: one}, \
                      {match: {path: /b, method: GET}, proxy: two}]");
        assert_eq!(
            differences(&old, &new),
            ["routes[GET /b].proxy: \"two\", was \"one\"", "routes[/c]: new", "timeout: \"3s\", was \"15s\""]
        );
        assert_eq!(differences(&new, &new), Vec::<String>::new());
        assert_eq!(differences(&new, &old)[0], "routes[/c]: gone");
    }

    #[test]
    fn so_many_are_told_and_no_more() {
        let routes = |count| Value::from((0..count).collect::<Vec<u32>>());
        let told = differences(&serde_json::json!({"a": routes(1)}), &serde_json::json!({"a": routes(100)}));
        assert_eq!((told.len(), &*told[TOLD]), (TOLD + 1, "and 49 more"));
    }
}
