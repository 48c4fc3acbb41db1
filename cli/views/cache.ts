import { digestHex } from '../../core/index.ts';
import type { CacheEntry, DiskUsage, PruneResult } from '../engine-contract.ts';
import { formatSize, safeLine } from '../progress/text.ts';
import { formatAge, formatTable } from './table.ts';

/** `varve cache ls`: one line for each record, as they are given. */
export function renderCacheList(
  entries: readonly CacheEntry[],
  options: { readonly noTrunc: boolean; readonly quiet: boolean; readonly now: number },
): string {
  const id = (entry: CacheEntry): string =>
    options.noTrunc ? digestHex(entry.key) : digestHex(entry.key).slice(0, 12);
  if (options.quiet) return entries.map((entry) => `${id(entry)}\n`).join('');
  const rows = entries.map((entry) => {
    const title = safeLine(entry.title);
    return [
      id(entry),
      options.noTrunc || title.length <= 50 ? title : `${title.slice(0, 49)}…`,
      formatSize(entry.bytes),
      entry.uses === undefined ? '-' : String(entry.uses),
      formatAge(options.now - entry.lastUsedAtMs),
      entry.inUse ? 'yes' : 'no',
    ];
  });
  return formatTable(['KEY', 'STEP', 'SIZE', 'USES', 'LAST USED', 'IN USE'], rows);
}

/** `varve cache du`, as `docker system df` prints it, with the sum below. */
export function renderDiskUsage(usage: DiskUsage): string {
  const rows = usage.rows.map((row) => [
    row.type,
    String(row.count),
    formatSize(row.bytes),
    `${formatSize(row.reclaimableBytes)}${row.bytes === 0 ? '' : ` (${Math.floor((100 * row.reclaimableBytes) / row.bytes)}%)`}`,
  ]);
  const total = usage.rows.reduce((sum, row) => sum + row.bytes, 0);
  const limit = usage.limitBytes === undefined ? '' : ` of ${formatSize(usage.limitBytes)}`;
  return `${formatTable(['TYPE', 'TOTAL', 'SIZE', 'RECLAIMABLE'], rows)}\nTotal: ${formatSize(total)}${limit}\n`;
}

export function renderPrune(result: PruneResult): string {
  const records = `${result.removed} record${result.removed === 1 ? '' : 's'}`;
  return `Removed ${records}\nTotal reclaimed space: ${formatSize(result.freedBytes)}\n`;
}
