/** What lies in the snapshot that each of {@link STEPS} stands on. */
export const BASE = `
  mkdir -p dir/sub other; chmod 711 dir
  echo one > dir/one; echo two > dir/two; echo deep > dir/sub/deep
  echo file > file; ln -s dir link; ln -s /abs/olute abs
  touch -d '2001-02-03 04:05:06.123456789' dir/one dir/sub file
  touch -h -d '2001-02-03 04:05:06.987654321' link
`;

/** What a process sees in a tree; times are in the listings of trees. */
export const LOOK = `find . -mindepth 1 \\( -type d -printf '%P d %m %U %G\\0' -o -printf '%P %y %m %U %G %s %l\\0' \\) | sort -z | tr '\\0' '\\n'
  find . -type f -print0 | sort -z | xargs -0 -r cat | sha256sum`;

/** Steps on top of {@link BASE} whose outcome must be what a plain folder would show. */
export const STEPS: Readonly<Record<string, string>> = {
  'nothing changed': 'true',
  whiteouts: 'rm file dir/one; rm -r dir/sub',
  'a whole folder removed': 'rm -r dir',
  'an opaque folder': 'rm -r dir; mkdir dir; chmod 711 dir; echo new > dir/new',
  'an opaque folder with an old name': 'rm -r dir; mkdir -p dir/sub; echo again > dir/sub/deep',
  'removed and made again within one step':
    'rm -r dir; mkdir dir; rmdir dir; mkdir dir; echo x > dir/x; rm dir/x',
  'a file that becomes a folder': 'rm file; mkdir file; echo in > file/in',
  'a folder that becomes a file': 'rm -r dir; echo flat > dir',
  'a folder that becomes a symlink': 'rm -r dir; ln -s other dir; echo via > dir/via',
  'a symlink that becomes a folder': 'rm link; mkdir link; echo in > link/in',
  'a symlink that becomes a file': 'rm abs; echo abs > abs',
  'a symlink that leads elsewhere': 'ln -sfn other link',
  'renamed files': 'mv file file2; mv dir/one other/uno',
  'changed in place': 'echo more >> dir/two; truncate -s 1 file',
  'changed in place with its time set back':
    't=$(stat -c %y dir/one); printf \'ENO\\n\' > dir/one; touch -d "$t" dir/one',
  'only a mode changed': 'chmod 600 dir/one; chmod 1777 other',
  'only an owner changed': 'chown 12:34 dir/one other; chown -h 5:6 link',
  'only a time changed':
    "touch -d '1999-12-31 23:59:59.000000001' file dir; touch -h -d '1999-01-01 00:00:00.5' abs",
  'times before 1970': "touch -d '1960-01-01 00:00:00.25' file",
  'hard links within the step': 'echo h > h1; ln h1 dir/h2; ln h1 a-first; ln -P link dir/link2',
  'a hard link to a file below': 'ln file other/file2',
  'a hard link to a symlink below': 'ln -P link other/link2',
  'set-id bits': 'cp /bin/true su; chown 3:4 su; chmod 6755 su; chmod 2775 other',
  'file capabilities': 'cp /bin/true ping; setcap cap_net_raw+ep ping',
  'extended attributes':
    'setfattr -n user.note -v value file; setfattr -n user.dir -v 0x00ff dir; setfattr -h -n trusted.link -v on link',
  'extended attributes of the root folder': 'setfattr -n user.root -v r .; chmod 700 .; chown 7:8 .',
  'device nodes, fifos and sockets':
    'mknod block b 7 300; mknod -m 600 char c 1 3; mkfifo -m 640 pipe; python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'sock\')"',
  'odd names':
    "printf x > $'new\\nline'; printf y > $'bad\\xff\\x80'; mkdir \"$(printf 'n%.0s' {1..255})\"; touch ' ' '\\' '*' -- -dash .wh.x",
  'sparse files':
    'truncate -s 50M sparse; echo middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none',
  'an empty folder and an empty file': 'mkdir empty; : > nothing',
};
