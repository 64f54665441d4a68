// Writes src/codes.ts from the one table of codes, codec/code.go. `make demo` runs it, a test holds both together.

import { readFileSync, writeFileSync } from "node:fs";

const table = readFileSync(new URL("../../codec/code.go", import.meta.url), "utf8");
const names = new Map([...table.matchAll(/^\t\{(Code\w+), "(\w+)"/gm)].map((m) => [m[1], m[2]]));
const rows = [...table.matchAll(/^\t(Code\w+)\s+Code = (\d+)$/gm)].map((m) => `  ${names.get(m[1])}: ${m[2]},\n`);
writeFileSync(
  new URL("src/codes.ts", import.meta.url),
  `// Written by codes.mjs from codec/code.go.

/** A code of the table in docs/protocol.md. The server may send others: then \`mayReconnect\` alone counts. */
export const Code = {
${rows.join("")}} as const;
`,
);
