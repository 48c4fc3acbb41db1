import type { BuildLog } from './contract.ts';
import type { Database } from './database.ts';
import type { UnchangedNotes } from './unchanged-notes.ts';

/**
 * Brings into the database what the native program answered by notes: a line in the log for each build that it answered (the last one of each
 * note), and the use of the records and slots that the answer rests on.
 */
export function takeInUses(database: Database, notes: UnchangedNotes): void {
  const newest = database.get('SELECT max(started_at) AS at FROM builds')?.['at'];
  const uses = notes.uses(typeof newest === 'number' ? newest : Number.NEGATIVE_INFINITY);
  if (uses.length === 0) return;
  database.transaction(() => {
    for (const { head, usedAtMs } of uses) {
      const at = Math.round(usedAtMs);
      const report = { ...head.report, startedAtMs: at, finishedAtMs: at };
      // Anew, so that it is the last line.
      database.run('DELETE FROM builds WHERE id = ?', report.id);
      database.run(
        'INSERT INTO builds (id, started_at, report) VALUES (?, ?, ?)',
        report.id,
        at,
        JSON.stringify(report),
      );
      for (const { key, slot } of head.uses) {
        database.run('UPDATE records SET last_used_at = max(last_used_at, ?) WHERE key = ?', at, key);
        // What the step is compared with when it misses next.
        database.run(
          `UPDATE slots SET key = ?1, used_at = ?2, preimage = (SELECT preimage FROM records WHERE key = ?1)
             WHERE slot = ?3 AND used_at < ?2 AND EXISTS (SELECT 1 FROM records WHERE key = ?1)`,
          ...[key, at, slot],
        );
      }
    }
  });
}

/** `log`, brought up to date before it is read or written. */
export function withUses(log: BuildLog, takeIn: () => void): BuildLog {
  return {
    save: (report) => {
      takeIn();
      log.save(report);
    },
    load: (id) => {
      takeIn();
      return log.load(id);
    },
    list: (limit) => {
      takeIn();
      return log.list(limit);
    },
  };
}
