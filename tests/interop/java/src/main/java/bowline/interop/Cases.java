/*
 * The cases that the client can run, one Cases per command. Each case drives a Session, checks every reply against
 * the call that it belongs to, and fills one answer. Which case exists and what it takes is in README.md.
 */
package bowline.interop;

import com.alipay.remoting.InvokeCallback;
import com.google.gson.JsonObject;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

final class Cases {
    static final String CLIENT_SUFFIX = "-from-client";

    private static final AtomicInteger SERIAL = new AtomicInteger();
    private static final String SIZES = "0,1,1024,65536,1048576,4194304";
    private static final int CONCURRENCY_MAX = 512;
    private static final int GRACE_MS = 5_000;
    private static final int RESTART_PAUSE_MS = 5;

    private final Command command;
    private final Session session;
    private final Consumer<JsonObject> event;
    private final AtomicBoolean stop = new AtomicBoolean();
    private final Outcomes outcomes = new Outcomes();
    private final JsonObject answer = new JsonObject();
    private volatile String detail = "";

    Cases(Command command, Session session, Consumer<JsonObject> event) {
        this.command = command;
        this.session = session;
        this.event = event;
    }

    /** Ends a case that runs until told (load) or waits (closed, heartbeat). */
    void stop() {
        stop.set(true);
    }

    JsonObject progress() {
        JsonObject json = new JsonObject();
        outcomes.write(json);
        return json;
    }

    JsonObject run() throws Exception {
        boolean ok = choose(command.text("case", ""));
        answer.addProperty("ok", ok);
        answer.addProperty("detail", detail);
        outcomes.write(answer);
        session.write(answer);
        return answer;
    }

    private boolean choose(String name) throws Exception {
        switch (name) {
            case "sync":
            case "future":
            case "callback":
                command.preset("style", name);
                return calls();
            case "concurrent":
                command.preset("style", "callback").preset("count", 200).preset("concurrency", 200);
                command.preset("op", "sleep").preset("argument", 100).preset("timeout_ms", 10_000);
                return calls();
            case "sizes":
                return sizes();
            case "bulk":
                command.preset("op", "bytes").preset("argument", 4 << 20).preset("count", 8);
                command.preset("concurrency", 8).preset("timeout_ms", 30_000).preset("size", 0);
                return calls();
            case "error":
                command.preset("op", "error").preset("expect", "InvokeServerException");
                return calls();
            case "timeout":
                return timeout();
            case "duplex":
                command.preset("op", "callback");
                return calls() && session.called() == command.number("count", 10);
            case "oneway":
                return oneway();
            case "heartbeat":
                return heartbeat();
            case "closed":
                return closed();
            case "load":
                return load();
            default:
                detail = "unknown case";
                return false;
        }
    }

    private boolean calls() throws Exception {
        int count = command.number("count", 10);
        int concurrency = Math.min(command.number("concurrency", 1), CONCURRENCY_MAX);
        AtomicInteger left = new AtomicInteger(count);
        inParallel(
                concurrency,
                () -> {
                    while (left.getAndDecrement() > 0) {
                        call(command.text("style", "sync"), command.number("size", 64));
                    }
                });
        return outcomes.asExpected(expected("ok"));
    }

    private boolean sizes() throws Exception {
        command.preset("payload", "raw").preset("timeout_ms", 30_000).preset("sizes", SIZES);
        for (String size : command.list("sizes")) {
            for (int i = 0; i < command.number("count", 1); i++) {
                call(command.text("style", "sync"), Integer.parseInt(size));
            }
        }
        return outcomes.asExpected(expected("ok"));
    }

    /** Calls that outlive their timeout, then calls on the same connection that must be unharmed. */
    private boolean timeout() throws Exception {
        command.preset("op", "sleep").preset("argument", 1_500).preset("timeout_ms", 300).preset("count", 3);
        command.preset("expect", "InvokeTimeoutException");
        if (!calls()) {
            return false;
        }
        int timedOut = outcomes.count("InvokeTimeoutException");
        Message echo = new Message("echo", SERIAL.incrementAndGet(), 0, "after the timeout");
        Object reply = session.sync(request(echo), GRACE_MS);
        detail = timedOut + " timed out, then one answered";
        return matches(echo, Payload.read(reply)) && session.connects() == command.number("connections", 1);
    }

    private boolean oneway() throws Exception {
        int count = command.number("count", 100);
        // Random, since many clients may count at one server.
        int key = ThreadLocalRandom.current().nextInt(Integer.MAX_VALUE);
        for (int i = 0; i < count; i++) {
            int serial = SERIAL.incrementAndGet();
            byte[] body = Message.pattern(serial, command.number("size", 64));
            session.oneway(request(new Message("oneway", serial, key, body)));
        }
        Message counted = null;
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(GRACE_MS);
        while (counted == null || counted.argument < count && System.nanoTime() < deadline) {
            Message ask = new Message("count", SERIAL.incrementAndGet(), key, "");
            counted = Payload.read(session.sync(request(ask), GRACE_MS));
        }
        answer.addProperty("arrived", counted.argument);
        answer.addProperty("arrived_distinct", Integer.parseInt(counted.text()));
        detail = "sent " + count;
        return counted.argument == count && counted.text().equals(Integer.toString(count));
    }

    /** One call, an idle time in which heartbeats must be acknowledged, one more call over the same connection. */
    private boolean heartbeat() throws Exception {
        call("sync", 64);
        int before = session.wire.received("heartbeat_ack");
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(command.number("idle_ms", 2_000));
        while (System.nanoTime() < deadline && !stop.get() && session.closes() == 0) {
            session.awaitClose((int) Math.min(100, Math.max(1, (deadline - System.nanoTime()) / 1_000_000)));
        }
        int acknowledged = session.wire.received("heartbeat_ack") - before;
        call("sync", 64);
        detail = acknowledged + " heartbeats acknowledged while idle";
        answer.addProperty("heartbeat_acks", acknowledged);
        boolean oneConnection = session.connects() == 1 && session.closes() == 0;
        return oneConnection && acknowledged >= command.number("acks_min", 1) && outcomes.asExpected(Set.of("ok"));
    }

    /** Waits until the connection is closed under it; calls that the server leaves open get their outcome then. */
    private boolean closed() throws Exception {
        int timeoutMs = command.number("timeout_ms", 10_000);
        command.preset("op", "silent");
        session.sync(request(new Message("echo", SERIAL.incrementAndGet(), 0, "first")), timeoutMs);
        int open = Math.min(command.number("count", 0), CONCURRENCY_MAX);
        CountDownLatch ended = new CountDownLatch(open);
        for (int i = 0; i < open; i++) {
            int serial = SERIAL.incrementAndGet();
            Message message = new Message(command.text("op", "silent"), serial, command.number("argument", 0), "");
            outcomes.started(serial);
            session.callback(request(message), timeoutMs, settle(message, ended));
        }
        event.accept(named("connected"));
        boolean closed = session.awaitClose(timeoutMs);
        boolean all = ended.await(timeoutMs + GRACE_MS, TimeUnit.MILLISECONDS);
        detail = closed ? "closed by the other side" : "still open";
        return closed && all && outcomes.asExpected(expected(null));
    }

    /** Calls without pause until stopped; a failed call is followed by a short pause and the next call. */
    private boolean load() throws Exception {
        int concurrency = Math.min(command.number("concurrency", 16), CONCURRENCY_MAX);
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(command.number("duration_ms", 60_000));
        AtomicBoolean running = new AtomicBoolean();
        inParallel(
                concurrency,
                () -> {
                    while (!stop.get() && System.nanoTime() < deadline) {
                        boolean ok = call(command.text("style", "callback"), command.number("size", 64));
                        if (ok && running.compareAndSet(false, true)) {
                            event.accept(named("running"));
                        }
                        if (!ok) {
                            Thread.sleep(RESTART_PAUSE_MS);
                        }
                    }
                });
        detail = stop.get() ? "stopped" : "time is over";
        return outcomes.asExpected(expected(null)) && outcomes.count("ok") > 0;
    }

    /** One call and its outcome; true if the reply was the right one. */
    private boolean call(String style, int size) throws InterruptedException {
        int serial = SERIAL.incrementAndGet();
        String op = command.text("op", "echo");
        int argument = command.number("argument", 0);
        byte[] body = Message.pattern(serial, size);
        Message message = new Message(op, serial, argument, body);
        int timeoutMs = command.number("timeout_ms", 5_000);
        CountDownLatch ended = new CountDownLatch(1);
        AtomicBoolean ok = new AtomicBoolean();
        outcomes.started(serial);
        try {
            if (style.equals("callback")) {
                session.callback(request(message), timeoutMs, settle(message, ended, ok));
                ended.await(timeoutMs + GRACE_MS, TimeUnit.MILLISECONDS);
            } else if (style.equals("future")) {
                ok.set(judge(message, session.future(request(message), timeoutMs)));
            } else {
                ok.set(judge(message, session.sync(request(message), timeoutMs)));
            }
        } catch (InterruptedException e) {
            throw e;
        } catch (Exception e) {
            outcomes.failed(serial, e);
        }
        return ok.get();
    }

    private InvokeCallback settle(Message message, CountDownLatch ended) {
        return settle(message, ended, new AtomicBoolean());
    }

    private InvokeCallback settle(Message message, CountDownLatch ended, AtomicBoolean ok) {
        return new InvokeCallback() {
            @Override
            public void onResponse(Object result) {
                ok.set(judge(message, result));
                ended.countDown();
            }

            @Override
            public void onException(Throwable e) {
                outcomes.failed(message.serial, e);
                ended.countDown();
            }

            @Override
            public java.util.concurrent.Executor getExecutor() {
                return null;
            }
        };
    }

    private boolean judge(Message message, Object result) {
        Message reply;
        try {
            reply = Payload.read(result);
        } catch (RuntimeException e) {
            outcomes.ended(message.serial, "wrong_reply", e.toString());
            return false;
        }
        boolean ok = matches(message, reply);
        String text = reply.body.length > 200 ? reply.body.length + " bytes" : reply.text();
        String failed = reply.op.equals("callback_failed") ? "callback_failed:" + text : "wrong_reply";
        outcomes.ended(message.serial, ok ? "ok" : failed, text);
        return ok;
    }

    private static boolean matches(Message asked, Message reply) {
        if (reply.serial != asked.serial) {
            return false;
        }
        switch (asked.op) {
            case "bytes":
                return Arrays.equals(reply.body, Message.pattern(asked.serial, asked.argument));
            case "callback":
                return reply.op.equals("callback") && reply.text().equals(asked.text() + CLIENT_SUFFIX);
            case "name":
                return reply.op.equals("name");
            default:
                return reply.op.equals(asked.op) && Arrays.equals(reply.body, asked.body);
        }
    }

    private Object request(Message message) {
        return Payload.named(command.text("payload", "message")).request(message, command.text("service", null));
    }

    private Set<String> expected(String absent) {
        List<String> list = command.list("expect");
        if (list != null) {
            return new HashSet<>(list);
        }
        return absent == null ? null : Set.of(absent);
    }

    private static JsonObject named(String name) {
        JsonObject json = new JsonObject();
        json.addProperty("event", name);
        return json;
    }

    private interface Work {
        void run() throws Exception;
    }

    private static void inParallel(int threads, Work work) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(Math.max(1, threads));
        try {
            List<Future<?>> running = new java.util.ArrayList<>();
            for (int i = 0; i < Math.max(1, threads); i++) {
                running.add(
                        pool.submit(
                                () -> {
                                    work.run();
                                    return null;
                                }));
            }
            for (Future<?> one : running) {
                one.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }
}
