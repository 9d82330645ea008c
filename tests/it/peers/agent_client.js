// A local program of an agent, by mqtt.js: node agent_client.js SOCKET GATEWAY CID
const assert = require('node:assert')
const mqtt = require('mqtt')

const [socket, gateway, cid] = process.argv.slice(2)
const report = `gateway_id/${gateway}/properties/report`

setTimeout(() => { throw new Error('hangs') }, 50000).unref()
const options = { clientId: 'meters-js', protocolVersion: 4, reconnectPeriod: 0 }
const client = mqtt.connect(`mqtt+unix://${socket}`, options)
const answers = []
client.on('error', (why) => { throw why })
client.on('connect', () => client.subscribe(`${report}/response`, { qos: 1 }, (why) => {
  assert.ifError(why)
  const param = { cid, id: '1', value: 12345 }
  client.publish(report, JSON.stringify({ t: 1, request_id: 'js', param }), { qos: 1 }, assert.ifError)
}))
client.on('message', (_, payload) => {
  answers.push(JSON.parse(payload))
  client.end(() => {
    assert.deepEqual(answers.map((one) => [one.request_id, one.param.code]), [['js', 0]])
    console.log('done')
  })
})
