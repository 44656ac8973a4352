/*
 * Carries Raw: its header map as the frame's header, its bytes as the frame's content, in both directions.
 */
package bowline.interop;

import com.alipay.remoting.DefaultCustomSerializer;
import com.alipay.remoting.InvokeContext;
import com.alipay.remoting.rpc.RequestCommand;
import com.alipay.remoting.rpc.ResponseCommand;
import com.alipay.remoting.rpc.protocol.RpcRequestCommand;
import com.alipay.remoting.rpc.protocol.RpcResponseCommand;

final class RawSerializer extends DefaultCustomSerializer {
    @Override
    public <T extends RequestCommand> boolean serializeHeader(T request, InvokeContext context) {
        Raw raw = (Raw) ((RpcRequestCommand) request).getRequestObject();
        request.setHeader(HeaderMap.encode(raw.header));
        return true;
    }

    @Override
    public <T extends RequestCommand> boolean serializeContent(T request, InvokeContext context) {
        request.setContent(((Raw) ((RpcRequestCommand) request).getRequestObject()).content);
        return true;
    }

    @Override
    public <T extends RequestCommand> boolean deserializeHeader(T request) {
        ((RpcRequestCommand) request).setRequestHeader(HeaderMap.decode(request.getHeader()));
        return true;
    }

    @Override
    public <T extends RequestCommand> boolean deserializeContent(T request) {
        ((RpcRequestCommand) request).setRequestObject(raw(request.getHeader(), request.getContent()));
        return true;
    }

    @Override
    public <T extends ResponseCommand> boolean serializeHeader(T response) {
        Object object = ((RpcResponseCommand) response).getResponseObject();
        if (!(object instanceof Raw)) {
            return false;
        }
        response.setHeader(HeaderMap.encode(((Raw) object).header));
        return true;
    }

    @Override
    public <T extends ResponseCommand> boolean serializeContent(T response) {
        Object object = ((RpcResponseCommand) response).getResponseObject();
        if (!(object instanceof Raw)) {
            return false;
        }
        response.setContent(((Raw) object).content);
        return true;
    }

    @Override
    public <T extends ResponseCommand> boolean deserializeHeader(T response, InvokeContext context) {
        ((RpcResponseCommand) response).setResponseHeader(HeaderMap.decode(response.getHeader()));
        return true;
    }

    @Override
    public <T extends ResponseCommand> boolean deserializeContent(T response, InvokeContext context) {
        ((RpcResponseCommand) response).setResponseObject(raw(response.getHeader(), response.getContent()));
        return true;
    }

    /* The stock decoder leaves header and content null when their length is 0. */
    private static Raw raw(byte[] header, byte[] content) {
        Raw raw = new Raw();
        if (header != null) {
            raw.header = HeaderMap.decode(header);
        }
        if (content != null) {
            raw.content = content;
        }
        return raw;
    }
}
