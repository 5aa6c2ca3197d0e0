// SPDX-License-Identifier: Apache-2.0
// The JavaScript client: create, list, informer, patch, apply, errors, generic objects. KUBECONFIG
// names the server; the status says whether all was as it should be.
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = 'default';

for (let i = 0; i < 5; i++) {
  await core.createNamespacedConfigMap({ namespace,
    body: { metadata: { name: `j${i}`, labels: { by: 'js' } }, data: { i: String(i) } } });
}
const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'by=js' });
assert.deepEqual(list.items.map((m) => m.metadata.name), ['j0', 'j1', 'j2', 'j3', 'j4']);

const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace, labelSelector: 'by=js' }), 'by=js');
const cached = new Map();
let told;
const changed = () => told && told();
informer.on('add', (m) => { cached.set(m.metadata.name, m); changed(); });
informer.on('update', (m) => { cached.set(m.metadata.name, m); changed(); });
informer.on('delete', (m) => { cached.delete(m.metadata.name); changed(); });
let stopping = false; // an aborted request is told as an error
informer.on('error', (e) => { if (!stopping) throw e; });
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => { told = resolve; });
};
await informer.start();
await until(() => cached.size === 5);

await core.patchNamespacedConfigMap({ namespace, name: 'j1',
  body: [{ op: 'replace', path: '/data/i', value: 'x' }] });
await core.deleteNamespacedConfigMap({ namespace, name: 'j2' });
await until(() => cached.get('j1').data.i === 'x' && !cached.has('j2'));
stopping = true;
await informer.stop();

await assert.rejects(core.readNamespacedConfigMap({ namespace, name: 'none' }), (e) => e.code === 404);

const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const made = await objects.patch({ apiVersion: 'v1', kind: 'ConfigMap',
  metadata: { name: 'applied', namespace }, data: { a: 'b' } }, undefined, undefined, 'js', true,
k8s.PatchStrategy.ServerSideApply);
assert.equal(made.metadata.managedFields[0].manager, 'js');
const read = await objects.read({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace } });
assert.equal(read.data.a, 'b');
console.log('js: done');
process.exit(0);
