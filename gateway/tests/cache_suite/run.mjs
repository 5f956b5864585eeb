// Runs the HTTP community's cache tests (https://github.com/http-tests/cache-tests) against a gateway, and prints what came
// of each as JSON: node run.mjs FOLDER-OF-THE-SUITE URL
import { pathToFileURL } from 'node:url'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

const [folder, url] = process.argv.slice(2)
const load = path => import(pathToFileURL(resolve(folder, path)))
// The package in the registry is laid out otherwise than the repository is now.
const isPackage = existsSync(join(folder, 'client/runner.mjs'))
const tests = (await load('tests/index.mjs')).default
const { runTests, getResults } = await load(isPackage ? 'client/runner.mjs' : 'test-engine/client/runner.mjs')
// Not Node's own `fetch`, which adds `no-cache` by itself.
if (isPackage) await runTests(tests, (await load('../node-fetch/lib/index.mjs')).default, false, url, 100)
else await runTests(tests, false, url, 100)

const results = getResults()
const outcome = test => {
  const result = results[test.id]
  if (result === undefined) return 'skipped'
  if (result === true) return 'passed'
  return result[0] === 'Setup' || result[0] === 'SetupError' ? 'setup' : 'failed'
}
const byId = Object.fromEntries(tests.flatMap(suite => suite.tests).map(test => [test.id, test]))
const stands = test => (test.depends_on ?? []).every(id => byId[id] === undefined || (outcome(byId[id]) === 'passed' && stands(byId[id])))
const rows = tests.flatMap(suite => suite.tests.map(test => ({
  suite: suite.id,
  id: test.id,
  kind: test.kind ?? 'required',
  outcome: stands(test) ? outcome(test) : 'dependency',
  detail: Array.isArray(results[test.id]) ? results[test.id][1] : ''
})))
console.log(JSON.stringify(rows))
