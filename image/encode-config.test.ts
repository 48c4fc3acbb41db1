import { expect, test } from 'vitest';
import type { DiffId, ImageConfig } from '../core/index.ts';
import { encodeConfig } from './manifest.ts';

const DIFF = `sha256:${'0'.repeat(64)}` as DiffId;

test('encodeConfig writes what BuildKit writes, byte for byte, in whatever order the fields came', () => {
  const config: ImageConfig = {
    os: 'linux',
    history: [
      {
        empty_layer: true,
        comment: 'c',
        created_by: 'RUN a && b < "c"',
        created: '2024-01-02T03:04:05Z',
      },
      { created_by: 'COPY a /', comment: 'c', empty_layer: false },
    ],
    rootfs: { type: 'layers', diff_ids: [DIFF] },
    config: {
      Shell: ['/bin/bash', '-c'],
      OnBuild: ['RUN echo hi && echo there', 'COPY . /app'],
      Healthcheck: {
        Retries: 3,
        StartInterval: 0,
        Interval: 30e9,
        Test: ['CMD-SHELL', 'curl -f http://localhost/ || exit 1'],
        StartPeriod: 300e9,
        Timeout: 3e9,
      },
      ArgsEscaped: true,
      StopSignal: 'SIGTERM',
      Labels: { z: '1', a: 'two words', 'with space': 'x', 'b.c': '1' },
      WorkingDir: '/w/sub',
      Volumes: { '/data': {}, '/b': {} },
      Cmd: ['-c', 'a & b'],
      Entrypoint: ['/bin/bash', '-c', 'exec top -b'],
      Env: ['PATH=/bin', 'Z=<&>'],
      ExposedPorts: { '80/tcp': {}, '8000/tcp': {}, '53/udp': {}, '9000/sctp': {} },
      User: '1000:1000',
    },
    created: '2024-01-02T03:04:05Z',
    author: 'me <me@x>',
    architecture: 'amd64',
  };
  // The expectation is what the BuildKit of Docker 20.10 wrote for the same Dockerfile; it had ArgsEscaped after Healthcheck.
  expect(Buffer.from(encodeConfig(config)).toString()).toBe(
    String.raw`{"architecture":"amd64","author":"me \u003cme@x\u003e","config":{"User":"1000:1000","ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"9000/sctp":{}},"Env":["PATH=/bin","Z=\u003c\u0026\u003e"],"Entrypoint":["/bin/bash","-c","exec top -b"],"Cmd":["-c","a \u0026 b"],"Volumes":{"/b":{},"/data":{}},"WorkingDir":"/w/sub","Labels":{"a":"two words","b.c":"1","with space":"x","z":"1"},"StopSignal":"SIGTERM","ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/ || exit 1"],"Interval":30000000000,"Timeout":3000000000,"StartPeriod":300000000000,"Retries":3},"OnBuild":["RUN echo hi \u0026\u0026 echo there","COPY . /app"],"Shell":["/bin/bash","-c"]},"created":"2024-01-02T03:04:05Z","history":[{"created":"2024-01-02T03:04:05Z","created_by":"RUN a \u0026\u0026 b \u003c \"c\"","comment":"c","empty_layer":true},{"created_by":"COPY a /","comment":"c"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}`,
  );
});

test('encodeConfig leaves out what is empty, and sorts numbers among names as text', () => {
  const config: ImageConfig = {
    architecture: 'amd64',
    os: 'linux',
    config: { User: '', Env: [], Labels: { 10: 'a', 9: 'b', B: '', a: '\u2028' }, Cmd: [] },
    rootfs: { type: 'layers', diff_ids: [] },
  };
  expect(Buffer.from(encodeConfig(config)).toString()).toBe(
    String.raw`{"architecture":"amd64","config":{"Labels":{"10":"a","9":"b","B":"","a":"\u2028"}},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`,
  );
});
