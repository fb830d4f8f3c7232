"""test_restart.py - what is the same after a restart and after kill -9, seen by clients and by the command."""
import json
import shutil
import time
import unittest

import harness

RULES = {"version": 1, "rules": [{"name": "temperature_high", "clearAfter": "0s", "cooldown": "0s"},
                                 {"name": "silence", "enabled": False}]}


class Restart(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        self.broker = self.start(rules=RULES, options={"flush_interval": "200ms"})

    def watcher(self, *topics):
        watch = self.broker.operator("watch").connect()
        for topic in topics:
            watch.subscribe(topic)
        return watch

    def devices(self):
        out = json.loads(self.broker.command("device", "list", "--db", str(self.broker.db), "--json"))
        return {d["deviceId"]: d for d in out["devices"]}

    def alerts(self):
        out = json.loads(self.broker.command("alert", "list", "--db", str(self.broker.db), "--json"))
        return {(a["deviceId"], a["alertname"]): a for a in out["alerts"]}

    def heat(self):
        """Two devices, one of them firing; the alert as it was told."""
        watch = self.watcher("alerts/critical")
        oven = self.broker.client("oven").connect()
        cool = self.broker.client("cool").connect()
        for value in (20, 95):
            oven.publish("devices/oven/telemetry", {"sensors": {"temperature": value}})
        cool.publish("devices/cool/telemetry", {"sensors": {"temperature": 21, "humidity": 40}})
        alert = watch.next_json("alerts/critical")
        self.assertEqual(alert["status"], "firing")
        harness.wait_until(lambda: self.devices().get("oven", {}).get("messages") == 2 and
                           self.devices().get("cool", {}).get("messages") == 1 and self.alerts(),
                           "the store has it")
        return alert

    def check_same(self, alert, same_stream):
        watch = self.watcher("alerts/#", "devices/+/availability")
        active = watch.next_json("alerts/active/oven/+")
        self.assertEqual((active["id"], active["startsAt"], active["status"]),
                         (alert["id"], alert["startsAt"], "firing"))
        self.assertEqual(active["stream"] == alert["stream"], same_stream)
        self.assertEqual(watch.next("devices/oven/availability").payload, b"offline")
        oven = self.broker.client("oven").connect()
        self.assertEqual(watch.next("devices/oven/availability").payload, b"online")
        oven.publish("devices/oven/telemetry", {"sensors": {"temperature": 96}})
        oven.publish("devices/oven/telemetry", {"sensors": {"temperature": 20}})
        told = watch.next_json("alerts/critical")
        self.assertEqual((told["status"], told["id"]), ("resolved", alert["id"]),
                         "no second 'firing' for the same incident")
        self.assertEqual(self.devices()["cool"]["messages"], 1)

    def test_a_clean_restart_keeps_devices_alerts_and_the_stream(self):
        alert = self.heat()
        self.broker.close_clients()
        self.broker.stop()
        self.assertEqual(self.devices()["oven"]["messages"], 2, "readable while the broker is down")
        self.assertIn(("oven", "temperature_high"), self.alerts())
        self.broker.start()
        self.check_same(alert, same_stream=True)

    def test_kill_9_keeps_devices_and_alerts_and_begins_a_new_stream(self):
        alert = self.heat()
        self.broker.kill9()
        self.broker.close_clients()
        self.assertIn(("oven", "temperature_high"), self.alerts())
        self.broker.start()
        self.check_same(alert, same_stream=False)

    def test_kill_9_again_and_again_never_damages_the_store(self):
        for round_ in range(5):
            device = self.broker.client(f"d{round_}").connect()
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                device.publish(f"devices/d{round_}/telemetry", '{"temperature":20}', qos=0)
            harness.wait_until(lambda: f"d{round_}" in self.devices(), "the device is in the store")
            self.broker.kill9()
            self.broker.close_clients()
            self.broker.command("store", "check", "--db", str(self.broker.db))
            self.broker.start()
        self.assertEqual(set(self.devices()), {f"d{i}" for i in range(5)})
        self.assertEqual(self.broker.count("moved aside"), 0)

    def test_a_second_broker_on_the_same_store_refuses_to_start(self):
        second = self.make("second", options={"db_path": str(self.broker.db)})
        log = second.fails_to_start()
        self.assertIn(str(self.broker.db), log)
        self.assertIn(str(self.broker.process.pid), log)

    def test_a_damaged_store_is_moved_aside_and_the_broker_starts(self):
        self.heat()
        self.broker.kill9()
        self.broker.close_clients()
        data = self.broker.db / "data.mdb"
        with open(data, "r+b") as file:
            size = file.seek(0, 2)
            for offset in range(8192, size, 4096):
                file.seek(offset)
                file.write(b"\xa5" * 4096)
        self.broker.start()
        self.broker.client("oven").connect()
        self.assertTrue(list(self.broker.db.glob("corrupt-*")) or
                        list(self.broker.db.parent.glob("db.corrupt-*")), "the old one is kept")
        harness.wait_until(lambda: set(self.devices()) == {"oven"}, "a new store has begun")


class Persistence(harness.BrokerTest):
    def test_stale_retained_alerts_of_the_brokers_own_database_stay_invisible(self):
        broker = self.start(rules=RULES, options={"flush_interval": "200ms"}, persistence=True)
        watch = broker.operator("watch").connect()
        watch.subscribe("alerts/#")
        oven = broker.client("oven").connect()
        oven.publish("devices/oven/telemetry", {"sensors": {"temperature": 95}})
        watch.next_json("alerts/active/oven/+")
        broker.stop()  # mosquitto.db now holds the retained alert
        broker.close_clients()
        shutil.rmtree(broker.db)
        broker.start()  # Haltere knows of no alert any more
        watch = broker.operator("watch").connect()
        watch.subscribe("alerts/#")
        watch.subscribe("t/#")
        watch.publish("t/end", "x")
        self.assertEqual([m.topic for m in watch.nothing_before("t/end")], [])


if __name__ == "__main__":
    unittest.main()
