"""A local program of an agent, by paho-mqtt of either API: python3 agent_client.py SOCKET GATEWAY CID."""

import json
import queue
import sys

import paho.mqtt.client as mqtt

SOCKET, GATEWAY, CID = sys.argv[1:]
LIMIT = 50
API = getattr(mqtt, "CallbackAPIVersion", None)
REPORT = f"gateway_id/{GATEWAY}/properties/report"

granted, acknowledged, answers = queue.Queue(), queue.Queue(), queue.Queue()
client = mqtt.Client(*([] if API is None else [API.VERSION2]), client_id="meters", transport="unix")
client.on_connect = lambda client, *_: client.subscribe(REPORT + "/response", 1)
client.on_subscribe = lambda *_: granted.put(None)
client.on_publish = lambda _client, _data, mid, *_: acknowledged.put(mid)
client.on_message = lambda _client, _data, message: answers.put(json.loads(message.payload))
client.connect(SOCKET)
client.loop_start()
granted.get(timeout=LIMIT)

report = {"t": 1, "request_id": "python", "param": {"cid": CID, "id": "1", "value": 12345}}
client.publish(REPORT, json.dumps(report), 1)
acknowledged.get(timeout=LIMIT)
answer = answers.get(timeout=LIMIT)
client.disconnect()
client.loop_stop()
assert (answer["request_id"], answer["param"]["code"]) == ("python", 0), answer
assert answers.empty(), "only its own answer"
print("done")
