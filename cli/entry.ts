import { enableCompileCache } from 'node:module';
import { codeFolder } from './code-folder.ts';

const folder = codeFolder(process.env, process.geteuid?.());
if (folder !== undefined) enableCompileCache(folder);

const { start } = await import('./start.ts');
await start();
