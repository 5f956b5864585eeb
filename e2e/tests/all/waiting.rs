//! A publish that waits and one that is told later, by `curl` through the gateway, with a webhook on this machine as the one who
//! takes it.

use std::fs;

use e2e::shown;

/// Writes each body that it is sent on a line, and answers.
const RECEIVER: &str = r#"
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["content-length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

const SCENARIO: &str = r#"
```console
$ export KEY=$(turnpike key new --file data/keys.yaml --subject partners/acme --scope 'webhooks:write,webhooks:read,events:read:NOTES/*,events:write:NOTES/*' 2> key.log)
$ turnpike up --port PORT --ops-port OPS --data-dir data > turnpike.log 2>&1 &
$ curl -s --retry 60 --retry-delay 1 --retry-all-errors --fail -o products.json http://127.0.0.1:PORT/products
$ call() { curl -s -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' "$@"; }
$ call "http://127.0.0.1:PORT/events/NOTES/WRITTEN?id=held&confirm=delivered&timeout=60s" -d '{"text":"hello"}' > held.json & held=$!
$ for n in $(seq 100); do call "http://127.0.0.1:PORT/events/held/status?queue=NOTES" | jq -r .delivery > delivery; grep -q nobody delivery && break; sleep 0.1; done; cat delivery
nobody
$ kill -0 $held && echo "it waits"
it waits
$ python3 receiver.py HOOK > received.log &
$ call http://127.0.0.1:PORT/webhooks -d '{"url":"http://127.0.0.1:HOOK/hook","filter":"NOTES/*","ordered":true}' > webhook.json
$ wait $held; jq -c '[.id, .confirm]' held.json
["held","delivered"]
$ jq -c '[.id, .data]' received.log
["held",{"text":"hello"}]
$ to=$(jq -r .id webhook.json)
$ for n in $(seq 100 199); do call --retry 9 -o later.json -w '%{http_code}\n' "http://127.0.0.1:PORT/events/NOTES/WRITTEN?id=n$n&key=k&reply_to=webhook:$to" -d '{}'; done | uniq -c | tr -s ' '
 100 202
$ for n in $(seq 600); do [ $(grep -c COMPLETED received.log) = 100 ] && break; sleep 0.1; done; jq -r 'select(.event=="COMPLETED").data.id' received.log > receipts; diff receipts <(seq -f n%g 100 199) && echo "a hundred in order"
a hundred in order
$ jq -r 'select(.queue=="NOTES").id' received.log > events; diff events <(echo held; seq -f n%g 100 199) && echo "and so were the events"
and so were the events
```
"#;

#[tokio::test]
async fn a_publish_by_curl_waits_for_a_webhook_and_a_hundred_are_told_later() {
    let folder = tempfile::tempdir().unwrap();
    let [port, ops, hook] =
        [testkit::free_port(), testkit::free_port(), testkit::free_port()].map(|port| port.to_string());
    fs::write(folder.path().join("receiver.py"), RECEIVER).unwrap();
    let commands = shown::commands(&SCENARIO.replace("PORT", &port).replace("OPS", &ops).replace("HOOK", &hook));
    let place = folder.path().to_owned();
    tokio::task::spawn_blocking(move || shown::run(&commands, &place)).await.unwrap();
}
