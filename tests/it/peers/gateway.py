"""A gateway's whole job at an edge, done by paho-mqtt of either API: python3 gateway.py PORT."""

import hashlib
import json
import queue
import socket
import sys

import paho.mqtt.client as mqtt

PORT = int(sys.argv[1])
LIMIT = 20
API = getattr(mqtt, "CallbackAPIVersion", None)
PRESETS = ["devices/sync/response", "properties/report/response", "commands"]


class Client:
    """One client, whose callbacks end in queues."""

    def __init__(self, api, client_id, username="acme", clean=True, will=None, password=None):
        first = [] if api is None else [api]
        self.mqtt = mqtt.Client(*first, client_id=client_id, clean_session=clean, protocol=mqtt.MQTTv311)
        derived = hashlib.md5((client_id + username).encode()).hexdigest()
        self.mqtt.username_pw_set(username, password or derived)
        if will:
            self.mqtt.will_set(*will)
        self.greetings, self.messages, self.others = queue.Queue(), queue.Queue(), queue.Queue()
        self.mqtt.on_connect = lambda _client, _data, flags, code, *_: self.greetings.put((flags, code))
        self.mqtt.on_message = lambda _client, _data, message: self.messages.put(message)
        self.mqtt.on_subscribe = lambda _client, _data, mid, codes, *_: self.others.put(("sub", mid, codes))
        self.mqtt.on_unsubscribe = lambda _client, _data, mid, *_: self.others.put(("unsub", mid))
        self.mqtt.on_publish = lambda _client, _data, mid, *_: self.others.put(("pub", mid))
        self.mqtt.on_disconnect = lambda *_: self.others.put(("gone", None))

    def connect(self):
        """The CONNACK's session present flag and return code, in words for either API."""
        self.mqtt.connect("127.0.0.1", PORT)
        self.mqtt.loop_start()
        flags, code = self.greetings.get(timeout=LIMIT)
        present = flags["session present"] if isinstance(flags, dict) else flags.session_present
        return bool(present), mqtt.connack_string(code) if isinstance(code, int) else str(code)

    def await_(self, kind, mid=None):
        while True:
            other = self.others.get(timeout=LIMIT)
            if other[0] == kind and mid in (None, other[1]):
                return other

    def subscribe(self, *filters):
        _, mid = self.mqtt.subscribe([(name, qos) for name, qos in filters])
        codes = self.await_("sub", mid)[2]
        return [code if isinstance(code, int) else code.value for code in codes]

    def publish(self, topic, payload, qos=1, retain=False):
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self.await_("pub", self.mqtt.publish(topic, text, qos, retain).mid)

    def message(self, end=None):
        while True:
            message = self.messages.get(timeout=LIMIT)
            if end is None or message.topic.endswith(end):
                return message

    def leave(self):
        self.mqtt.disconnect()
        self.await_("gone")
        self.mqtt.loop_stop()

    def vanish(self):
        """Ends the connection without DISCONNECT, for good."""
        self.mqtt.on_disconnect = None
        self.mqtt.socket().shutdown(socket.SHUT_RDWR)
        self.mqtt.loop_stop()


def logins(api):
    present, said = Client(api, "gw-wrong", password="0" * 32).connect()
    assert not present and "password" in said.lower(), said
    _, said = Client(api, "gw-none", username="stranger").connect()
    assert "not authori" in said.lower(), said


def job(api, name, qos):
    """Sync, report, status and a command's answer, at one quality of service."""
    topic = f"gateway_id/{name}/"
    gateway, platform = Client(api, name), Client(api, "console", "platform")
    assert gateway.connect()[0] is False and platform.connect()[0] is False
    assert gateway.subscribe(*((topic + preset, qos) for preset in PRESETS)) == [qos] * 3
    assert gateway.subscribe(("gateway_id/another/commands", qos)) == [0x80]
    assert platform.subscribe(("gateway_id/+/commands/response", qos), ("gateway_id/+/devices/status", qos)) == [qos] * 2

    def asked(channel, param):
        gateway.publish(topic + channel, {"t": 1, "request_id": "r1", "param": param}, qos)
        message = gateway.message(channel + "/response")
        answer = json.loads(message.payload)
        assert answer["request_id"] == "r1" and message.qos == min(qos, 1) and not message.retain
        return answer["param"]["code"]

    assert asked("properties/report", {"cid": "m1", "id": "1", "value": 1}) == 2003
    assert asked("devices/sync", {"cid": "m1", "product_id": "p1"}) == 0
    assert asked("properties/report", {"cid": "m1", "id": "9", "value": "opened"}) == 0
    assert asked("properties/report", {"cid": "m1", "id": "9", "value": "ajar"}) == 2002
    status = {"t": 1, "request_id": "s", "param": [{"cid": "m1", "status": True}]}
    gateway.publish(topic + "devices/status", status, qos)
    assert json.loads(platform.message("status").payload) == status

    command = {"t": 1, "cid": "m1", "request_id": "c1", "param": {"id": "4", "value": True}}
    platform.publish(topic + "commands", command, qos)
    heard = json.loads(gateway.message("commands").payload)
    assert heard == command
    answer = {"t": 1, "cid": heard["cid"], "request_id": "c1", "param": {"msg": "success", "code": 0}}
    gateway.publish(topic + "commands/response", answer, qos)
    assert json.loads(platform.message("commands/response").payload) == answer

    # The page's sample programs: the very topic that is subscribed to.
    sample = "gateway/in/" + name
    assert gateway.subscribe((sample, qos)) == [qos]
    gateway.publish(sample, "Hello World", qos)
    message = gateway.message(sample)
    assert (message.payload, message.qos) == (b"Hello World", qos)
    _, mid = gateway.mqtt.unsubscribe(sample)
    gateway.await_("unsub", mid)
    gateway.leave()
    platform.leave()


def persistence(api):
    platform = Client(api, "console", "platform")
    platform.connect()
    name, topic = "gw-kept", "gateway/in/gw-kept"
    gateway = Client(api, name, clean=False)
    assert gateway.connect()[0] is False
    gateway.subscribe((topic, 2))
    gateway.leave()
    for n in range(30):
        platform.publish(topic, str(n), n % 2 + 1)
    gateway = Client(api, name, clean=False)
    assert gateway.connect()[0] is True, "the session is present"
    heard = [(int(message.payload), message.qos) for message in (gateway.message() for _ in range(30))]
    # This client hands a message of QoS 2 over when it is released, hence after later ones of QoS 1.
    assert sorted(heard, key=lambda one: one[1]) == [(n, 1) for n in range(0, 30, 2)] + [(n, 2) for n in range(1, 30, 2)]
    gateway.leave()
    clean = Client(api, name)
    assert clean.connect()[0] is False
    clean.leave()
    platform.leave()


def wills(api):
    platform = Client(api, "console", "platform")
    platform.connect()
    platform.subscribe(("gateway_id/+/devices/status", 1))
    topic = "gateway_id/gw-will/devices/status"
    polite = Client(api, "gw-will", will=(topic, "polite", 1))
    polite.connect()
    polite.leave()
    cut = Client(api, "gw-will", will=(topic, "cut", 1))
    cut.connect()
    cut.vanish()
    assert platform.message().payload == b"cut"
    platform.leave()


def retained(api):
    gateway, topic = Client(api, "gw-last"), "gateway/out/gw-last"
    gateway.connect()
    for qos in range(3):
        gateway.publish(topic, f"last {qos}", qos, True)
    platform = Client(api, "console", "platform")
    platform.connect()
    platform.subscribe(("gateway/out/+", 2))
    message = platform.message()
    assert (message.payload, message.qos, message.retain) == (b"last 2", 2, True)
    gateway.publish(topic, "", 1, True)
    message = platform.message()
    assert (message.payload, message.retain) == (b"", False)
    platform.subscribe((topic, 2))
    gateway.publish(topic, "end")
    assert platform.message().payload == b"end", "nothing was retained any more"
    gateway.leave()
    platform.leave()


def takeover(api):
    first = Client(api, "gw-twice")
    first.connect()
    # It must not come back and take over in its turn.
    first.mqtt.on_disconnect = lambda client, *_: (first.others.put(("gone", None)), client.disconnect())
    second = Client(api, "gw-twice")
    second.connect()
    first.await_("gone")
    second.publish("gateway/out/gw-twice", "still here")
    second.leave()


for number, version in enumerate([None] if API is None else [API.VERSION1, API.VERSION2]):
    logins(version)
    for quality in range(3):
        job(version, f"gw-{number}-{quality}", quality)
    persistence(version)
    wills(version)
    retained(version)
    takeover(version)
print("done")
