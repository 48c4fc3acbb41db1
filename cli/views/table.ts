/** Columns as Docker prints them: aligned, three blanks apart, no blanks at line ends, a newline after each row. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
        .join('')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** `5 minutes ago`, rounded as Docker rounds (go-units, HumanDuration). */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60 + 0.5);
  const text = (): string => {
    if (seconds < 1) return 'Less than a second';
    if (seconds === 1) return '1 second';
    if (seconds < 60) return `${seconds} seconds`;
    if (minutes === 1) return 'About a minute';
    if (minutes < 60) return `${minutes} minutes`;
    if (hours === 1) return 'About an hour';
    if (hours < 48) return `${hours} hours`;
    if (hours < 24 * 14) return `${Math.floor(hours / 24)} days`;
    if (hours < 24 * 60) return `${Math.floor(hours / 24 / 7)} weeks`;
    if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
    return `${Math.floor(hours / 24 / 365)} years`;
  };
  return `${text()} ago`;
}

/** Age of an RFC 3339 time stamp; `N/A` where there is none (Docker's word for an image made with the epoch as time). */
export function formatCreated(created: string | undefined, now: number): string {
  const at = created === undefined ? Number.NaN : Date.parse(created);
  return Number.isNaN(at) || at <= 0 ? 'N/A' : formatAge(now - at);
}
