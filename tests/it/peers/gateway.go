// What the page's sample program does, with its library: subscribes to a topic, publishes to the same one, and must
// get its message back. With a second argument it logs in with that password and says what its library makes of it.
package main

import (
	"crypto/md5"
	"fmt"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func must(token mqtt.Token) {
	if !token.WaitTimeout(20 * time.Second) {
		panic("no answer")
	}
	if token.Error() != nil {
		panic(token.Error())
	}
}

func main() {
	id, username := "gw-go", "acme"
	password := fmt.Sprintf("%x", md5.Sum([]byte(id+username)))
	if len(os.Args) > 2 {
		password = os.Args[2]
	}
	options := mqtt.NewClientOptions().AddBroker("tcp://127.0.0.1:" + os.Args[1]).SetClientID(id)
	options.SetUsername(username).SetPassword(password).SetAutoReconnect(false)
	options.SetKeepAlive(60 * time.Second).SetPingTimeout(time.Second)
	heard := make(chan string, 10)
	options.SetDefaultPublishHandler(func(_ mqtt.Client, message mqtt.Message) {
		heard <- fmt.Sprintf("%s %d %s", message.Topic(), message.Qos(), message.Payload())
	})
	client := mqtt.NewClient(options)
	if login := client.Connect(); len(os.Args) > 2 {
		if !login.WaitTimeout(20*time.Second) || login.Error() == nil {
			panic("it was let in")
		}
		fmt.Println(login.Error())
		return
	} else {
		must(login)
	}
	for _, direction := range []string{"in", "out"} {
		for qos := byte(0); qos <= 2; qos++ {
			topic := "gateway/" + direction + "/" + id
			must(client.Subscribe(topic, qos, nil))
			must(client.Publish(topic, qos, false, "Hello World"))
			select {
			case message := <-heard:
				if want := fmt.Sprintf("%s %d Hello World", topic, qos); message != want {
					panic(message)
				}
			case <-time.After(20 * time.Second):
				panic("the message did not come back")
			}
			must(client.Unsubscribe(topic))
		}
	}
	client.Disconnect(250)
	fmt.Println("done")
}
