// Compiles WGSL files with Tint, Chromium's compiler, through Dawn's node module.
//   npm install --prefix DIR webgpu && NODE_PATH=DIR/node_modules node scripts/tint_check.mjs FOLDER
// naga does not take `enable subgroups;`, Tint demands it: it is put in front of files that use subgroup operations.
import { createRequire } from 'node:module';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const { create, globals } = createRequire(process.env.NODE_PATH + '/')('webgpu');
Object.assign(globalThis, globals);
const gpu = create([]); // kept: a collected instance takes its devices with it
const adapter = await gpu.requestAdapter();
const wanted = ['subgroups', 'shader-f16'].filter((feature) => adapter.features.has(feature));
const device = await adapter.requestDevice({ requiredFeatures: wanted });
let passed = 0;
let failed = 0;
for (const file of readdirSync(process.argv[2]).filter((name) => name.endsWith('.wgsl')).sort()) {
  const text = readFileSync(join(process.argv[2], file), 'utf8');
  const code = /\bsubgroup[A-Z_]/.test(text) ? `enable subgroups;\n${text}` : text;
  device.pushErrorScope('validation');
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  await device.popErrorScope();
  const error = messages.find((message) => message.type === 'error');
  if (error) console.log(`FAIL ${file}:${error.lineNum}: ${error.message}`);
  if (error) failed++;
  else passed++;
}
console.log(`${passed} passed, ${failed} failed`);
globalThis.kept = gpu;
process.exit(failed || !passed ? 1 : 0);
