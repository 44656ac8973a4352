/*
 * One stock RpcClient with its own connections, kept for a case or, under a name, across cases. It registers the user
 * processor that answers calls from the server, and counts connections and frames.
 */
package bowline.interop;

import com.alipay.remoting.AsyncContext;
import com.alipay.remoting.BizContext;
import com.alipay.remoting.ConnectionEventType;
import com.alipay.remoting.ExtendedNettyChannelHandler;
import com.alipay.remoting.InvokeCallback;
import com.alipay.remoting.InvokeContext;
import com.alipay.remoting.config.BoltClientOption;
import com.alipay.remoting.config.Configs;
import com.alipay.remoting.rpc.RpcClient;
import com.alipay.remoting.rpc.RpcConfigs;
import com.alipay.remoting.rpc.protocol.AsyncMultiInterestUserProcessor;
import com.google.gson.JsonObject;
import io.netty.channel.ChannelHandler;
import io.netty.handler.traffic.ChannelTrafficShapingHandler;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

final class Session implements AutoCloseable {
    /** The heartbeat interval is a system property that the client reads while it connects: one at a time. */
    private static final Object CONNECTING = new Object();

    private static final long SHAPING_INTERVAL_MS = 50;

    final Wire wire = new Wire();
    final CountDownLatch closed = new CountDownLatch(1);
    private final AtomicInteger connects = new AtomicInteger();
    private final AtomicInteger closes = new AtomicInteger();
    private final AtomicInteger called = new AtomicInteger();
    private final RpcClient client = new RpcClient();
    private final String address;
    private final String protocol;

    Session(Command command) throws Exception {
        protocol = command.text("protocol", "v1");
        address = command.text("address", null) + query(protocol, command.number("connections", 1));
        client.option(BoltClientOption.EXTENDED_NETTY_CHANNEL_HANDLER, handlers(command.number("read_rate", 0)));
        client.addConnectionEventProcessor(
                ConnectionEventType.CONNECT, (remote, connection) -> connects.incrementAndGet());
        client.addConnectionEventProcessor(
                ConnectionEventType.CLOSE,
                (remote, connection) -> {
                    closes.incrementAndGet();
                    closed.countDown();
                });
        client.registerUserProcessor(new Called());
        client.startup();
        if (command.has("heartbeat_ms")) {
            connectWithHeartbeat(command.number("heartbeat_ms", 0), command.number("timeout_ms", 3_000));
        }
    }

    private static String query(String protocol, int connections) {
        String version;
        switch (protocol) {
            case "v1":
                version = "_PROTOCOL=1";
                break;
            case "v2":
                version = "_PROTOCOL=2&_VERSION=1";
                break;
            case "v2plain":
            case "v2crc":
                version = "_PROTOCOL=2&_VERSION=2";
                break;
            default:
                throw new IllegalArgumentException("unknown protocol " + protocol);
        }
        String pool = "&" + RpcConfigs.CONNECTION_NUM_KEY + "=" + connections;
        return "?" + version + pool + "&" + RpcConfigs.CONNECTION_WARMUP_KEY + "=true";
    }

    private void connectWithHeartbeat(int heartbeatMs, int timeoutMs) throws Exception {
        synchronized (CONNECTING) {
            System.setProperty(Configs.TCP_IDLE, Integer.toString(heartbeatMs));
            try {
                client.getConnection(address, timeoutMs);
            } finally {
                System.clearProperty(Configs.TCP_IDLE);
            }
        }
    }

    private ExtendedNettyChannelHandler handlers(int readRate) {
        return new ExtendedNettyChannelHandler() {
            @Override
            public List<ChannelHandler> frontChannelHandlers() {
                List<ChannelHandler> front = new ArrayList<>();
                if (readRate > 0) {
                    front.add(new ChannelTrafficShapingHandler(0, readRate, SHAPING_INTERVAL_MS));
                }
                front.add(wire.handler());
                return front;
            }

            @Override
            public List<ChannelHandler> backChannelHandlers() {
                return List.of();
            }
        };
    }

    /** Protocol v2plain is v2 with the CRC switched off per call; everywhere else the library's default stands. */
    private InvokeContext context() {
        InvokeContext context = new InvokeContext();
        if (protocol.equals("v2plain")) {
            context.put(InvokeContext.BOLT_CRC_SWITCH, false);
        }
        return context;
    }

    void connect(int timeoutMs) throws Exception {
        client.getConnection(address, timeoutMs);
    }

    Object sync(Object request, int timeoutMs) throws Exception {
        return client.invokeSync(address, request, context(), timeoutMs);
    }

    Object future(Object request, int timeoutMs) throws Exception {
        return client.invokeWithFuture(address, request, context(), timeoutMs).get();
    }

    void callback(Object request, int timeoutMs, InvokeCallback callback) throws Exception {
        client.invokeWithCallback(address, request, context(), callback, timeoutMs);
    }

    void oneway(Object request) throws Exception {
        client.oneway(address, request, context());
    }

    int closes() {
        return closes.get();
    }

    int connects() {
        return connects.get();
    }

    int called() {
        return called.get();
    }

    boolean awaitClose(int timeoutMs) throws InterruptedException {
        return closed.await(timeoutMs, TimeUnit.MILLISECONDS);
    }

    void write(JsonObject into) {
        into.addProperty("connects", connects.get());
        into.addProperty("closes", closes.get());
        into.addProperty("called", called.get());
        into.add("wire", wire.json());
    }

    @Override
    public void close() {
        client.shutdown();
    }

    /** Answers a call from the server with what it brought and a suffix, so that the answer is known to come from here. */
    private final class Called extends AsyncMultiInterestUserProcessor<Object> {
        @Override
        public List<String> multiInterest() {
            return Payload.REQUEST_CLASSES;
        }

        @Override
        public void handleRequest(BizContext context, AsyncContext reply, Object request) {
            called.incrementAndGet();
            Message message = Payload.read(request);
            String text = message.text() + Cases.CLIENT_SUFFIX;
            reply.sendResponse(Payload.of(request).reply(new Message("answer", message.serial, 0, text)));
        }

        @Override
        public Executor getExecutor() {
            return null;
        }
    }
}
