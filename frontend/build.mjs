// Builds attn/ui/why/graph.js: graph_source.js and the layout library in one file.
//
// The first line holds the source's SHA-256, by which the tests see a file that is behind.

import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { build } from "esbuild"

const source = readFileSync("graph_source.js", "utf8").replaceAll("\r\n", "\n")
const sum = createHash("sha256").update(source).digest("hex")

await build({
  entryPoints: ["graph_source.js"],
  outfile: "../attn/ui/why/graph.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
  banner: { js: `// Built by "make graph" from frontend/graph_source.js, sha256 ${sum}` },
})
