import { stripVTControlCharacters } from 'node:util';

/** C0 and C1 controls, and the marks that reorder text (Unicode TR9), with which a log could forge what is shown. */
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * One line of a step's output as it may be shown on a terminal: escape sequences and control characters are gone, a tab
 * is blanks, and of a line that redraws itself with carriage returns the last state is left.
 */
export function safeLine(line: string): string {
  const plain = stripVTControlCharacters(line).replace(/\r+$/, '');
  const last = plain.slice(plain.lastIndexOf('\r') + 1);
  return last.replaceAll('\t', '    ').replaceAll('\n', ' ').replace(UNSAFE, '');
}

/** Text of several lines, each as {@link safeLine} has it: for messages that quote file names or a registry's words. */
export function safeText(text: string): string {
  return text.split('\n').map(safeLine).join('\n');
}

/** `0.4s`, `12.3s`, `2m05s`, `1h02m`. */
export function formatSeconds(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${(Math.floor(seconds * 10) / 10).toFixed(1)}s`;
  const whole = Math.floor(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
}

/** Decimal units, as Docker prints sizes (go-units, HumanSize): `0B`, `512B`, `1.18MB`, `74.8MB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  // Three significant digits, as Go's %.3g; 999.9 rounds to the next power there as here.
  return `${Number(value.toPrecision(3))}${units[unit] ?? ''}`;
}
