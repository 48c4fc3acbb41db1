import type { BuildLog, BuildReport } from './contract.ts';
import { type Database, jsonOf } from './database.ts';

/** Builds that are remembered; the oldest go first. */
export const MAX_BUILDS = 100;

/** The build log in the database of the step cache. A report saved again under its id replaces the older one. */
export function buildLog(database: Database): BuildLog {
  const rows = (sql: string, ...values: readonly (string | number)[]): readonly BuildReport[] =>
    database.reading(() => database.all(sql, ...values).map((row) => jsonOf<BuildReport>(row, 'report')));
  return {
    save(report): void {
      database.transaction(() => {
        database.run(
          'INSERT INTO builds (id, started_at, report) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET started_at = ?2, report = ?3',
          report.id,
          Math.round(report.startedAtMs),
          JSON.stringify(report),
        );
        // By their order, not by their times: the clock may have been set back.
        database.run(
          'DELETE FROM builds WHERE id NOT IN (SELECT id FROM builds ORDER BY rowid DESC LIMIT ?)',
          MAX_BUILDS,
        );
      });
    },
    load(id): BuildReport | undefined {
      if (id === undefined) return this.list(1)[0];
      const [exact] = rows('SELECT report FROM builds WHERE id = ?', id);
      if (exact !== undefined || id === '') return exact;
      const fitting = rows('SELECT report FROM builds WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2', id);
      return fitting.length === 1 ? fitting[0] : undefined;
    },
    list(limit): readonly BuildReport[] {
      return rows('SELECT report FROM builds ORDER BY rowid DESC LIMIT ?', limit);
    },
  };
}
