// A gateway's whole job at an edge, done by mqtt.js: node gateway.js PORT
const assert = require('node:assert')
const crypto = require('node:crypto')
const mqtt = require('mqtt')

const url = `mqtt://127.0.0.1:${process.argv[2]}`

function open(clientId, username, options = {}) {
  const password = crypto.createHash('md5').update(clientId + username).digest('hex')
  const client = mqtt.connect(url, { clientId, username, password, protocolVersion: 4, reconnectPeriod: 0, ...options })
  const heard = []
  const waiting = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), packet }
    waiting.length ? waiting.shift()(message) : heard.push(message)
  })
  return new Promise((resolve, reject) => {
    client.on('error', reject)
    client.on('connect', (connack) => resolve({
      client,
      present: connack.sessionPresent,
      message: () => (heard.length ? Promise.resolve(heard.shift()) : new Promise((take) => waiting.push(take))),
      publish: (topic, payload, options) => new Promise((done, failed) =>
        client.publish(topic, payload, options, (why) => (why ? failed(why) : done()))),
      subscribe: (filters) => new Promise((done, failed) =>
        client.subscribe(filters, (why, granted) => (why ? failed(why) : done(granted.map((one) => one.qos))))),
      leave: (force = false) => new Promise((done) => client.end(force, done)),
    }))
  })
}

async function job(qos) {
  const id = `js-${qos}`
  const platform = await open('console', 'platform')
  const gateway = await open(id, 'acme', { clean: false })
  assert.equal(gateway.present, false)
  const base = `gateway_id/${id}`
  assert.deepEqual(await gateway.subscribe({ [`${base}/#`]: { qos } }), [qos])
  await platform.subscribe({ [`${base}/commands/response`]: { qos } })
  const ask = async (topic, param) => {
    await gateway.publish(`${base}/${topic}`, JSON.stringify({ t: 1, request_id: 'r', param }), { qos })
    for (;;) {
      const message = await gateway.message()
      if (message.topic.endsWith('response')) return JSON.parse(message.payload).param.code
    }
  }
  assert.equal(await ask('devices/sync', { cid: 'm1', product_id: 'p' }), 0)
  assert.equal(await ask('properties/report', { cid: 'm1', id: '4', value: true }), 0)
  assert.equal(await ask('properties/report', { cid: 'm1', id: '4', value: 'on' }), 1103)
  await gateway.leave()

  // Kept for the gateway while it is away, and answered when it is back.
  const command = { t: 1, cid: 'm1', request_id: 'c', param: { id: '4', value: false } }
  await platform.publish(`${base}/commands`, JSON.stringify(command), { qos: 1 })
  const back = await open(id, 'acme', { clean: false, will: { topic: `gateway/out/${id}`, payload: 'gone', qos: 1 } })
  assert.equal(back.present, true)
  if (qos === 0) await platform.publish(`${base}/commands`, JSON.stringify(command), { qos: 1 })
  for (;;) {
    const message = await back.message()
    if (!message.topic.endsWith('commands')) continue
    assert.deepEqual(JSON.parse(message.payload), command)
    break
  }
  const answer = JSON.stringify({ t: 1, cid: 'm1', request_id: 'c', param: { msg: 'success', code: 0 } })
  await back.publish(`${base}/commands/response`, answer, { qos })
  assert.equal((await platform.message()).payload, answer)

  await back.publish(`gateway/in/${id}`, 'last', { qos, retain: true })
  await platform.subscribe({ 'gateway/+/+': { qos: 2 } })
  const kept = await platform.message()
  assert.deepEqual([kept.payload, kept.packet.retain, kept.packet.qos], ['last', true, qos])
  await platform.publish(`gateway/in/${id}`, '', { qos, retain: true })
  assert.equal((await platform.message()).payload, '')
  back.client.stream.destroy()
  assert.equal((await platform.message()).payload, 'gone')
  await platform.leave()
}

async function takeover() {
  const first = await open('js-twice', 'acme')
  const gone = new Promise((done) => first.client.on('close', done))
  const second = await open('js-twice', 'acme')
  await gone
  await second.publish('gateway/out/js-twice', 'still here', { qos: 1 })
  await second.leave()
}

setTimeout(() => { throw new Error('hangs') }, 50000).unref()
;(async () => {
  await assert.rejects(open('js-wrong', 'acme', { password: 'x' }), /Bad [Uu]ser/)
  for (const qos of [0, 1, 2]) await job(qos)
  await takeover()
  console.log('done')
})()
